"""manage.py add_member EMAIL --workspace SLUG --role ROLE: who has an account elsewhere, too."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.actor import task_actor
from apps.accounts.models import Role, Workspace
from apps.accounts.people import add_member
from apps.base.problems import Problem


class Command(BaseCommand):
    help = "Add a person to a workspace; prints a one-time password for a new one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--workspace", required=True, help="slug of the workspace")
        parser.add_argument("--role", required=True, choices=Role.values)

    def handle(self, *args: Any, **options: Any) -> None:
        workspace = Workspace.objects.filter(slug=options["workspace"]).first()
        if workspace is None:
            raise CommandError("There is no such workspace.")
        actor = task_actor(workspace, "add_member")
        try:
            _, password = add_member(actor, email=options["email"], role=options["role"])
        except Problem as problem:
            raise CommandError(problem.detail) from None
        self.stdout.write(password or "This person keeps the password they have.")
