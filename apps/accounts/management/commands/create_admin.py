"""manage.py create_admin EMAIL --workspace SLUG: the first person of an installation."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.actor import task_actor
from apps.accounts.models import Role, Workspace
from apps.accounts.people import add_member, create_workspace
from apps.base.problems import Problem


class Command(BaseCommand):
    help = "Add an admin (and the workspace, if it is new); prints a one-time password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--workspace", required=True, help="slug of the workspace")
        parser.add_argument("--name", default="", help="name of a new workspace")
        parser.add_argument(
            "--split-seed",
            type=int,
            help="derive the split key of a new workspace, so that an experiment repeats",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["workspace"]
        workspace = Workspace.objects.filter(slug=slug).first() or create_workspace(
            slug=slug, name=options["name"] or slug, split_seed=options["split_seed"]
        )
        actor = task_actor(workspace, "create_admin")
        try:
            _, password = add_member(actor, email=options["email"], role=Role.ADMIN)
        except Problem as problem:
            raise CommandError(problem.detail) from None
        self.stdout.write(password or "This person keeps the password they have.")
