"""manage.py issue_token EMAIL --workspace SLUG --scope NAME: prints the token, nothing else."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.actor import SCOPES, task_actor
from apps.accounts.models import CHECKS_PER_SECOND, Membership
from apps.accounts.tokens import DEFAULT_DAYS, issue_token
from apps.base.problems import Problem


class Command(BaseCommand):
    help = "Print a new API token of a member."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--workspace", required=True)
        parser.add_argument(
            "--scope",
            nargs="+",
            action="extend",
            required=True,
            metavar="NAME",
            help=f"all, or some of: {', '.join(SCOPES)}",
        )
        parser.add_argument("--name", default="command line")
        parser.add_argument("--days", type=int, default=DEFAULT_DAYS)
        parser.add_argument("--checks-per-second", type=int, default=CHECKS_PER_SECOND)

    def handle(self, *args: Any, **options: Any) -> None:
        membership = (
            Membership.objects.select_related("user", "workspace")
            .filter(
                workspace__slug=options["workspace"],
                user__email__iexact=options["email"],
                is_active=True,
            )
            .first()
        )
        if membership is None:
            raise CommandError("No such active member in this workspace.")
        try:
            _, key = issue_token(
                task_actor(membership.workspace, "issue_token"),
                membership=membership,
                name=options["name"],
                scopes=options["scope"],
                days=options["days"],
                checks_per_second=options["checks_per_second"],
            )
        except Problem as problem:
            reasons = "; ".join(e.message for e in problem.errors) or problem.detail
            raise CommandError(reasons) from None
        self.stdout.write(key)
