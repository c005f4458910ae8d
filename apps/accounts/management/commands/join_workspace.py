"""Join somebody who has an account already to another workspace."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.actor import task_actor
from apps.accounts.models import Role, User, Workspace
from apps.accounts.people import add_member
from apps.base.problems import Problem


class Command(BaseCommand):
    help = "Join an account to a workspace; give it a new password first (new_password) where \
another workspace's admin may know the one it has."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--workspace", required=True, help="slug")
        parser.add_argument("--role", required=True, choices=Role.values)

    def handle(self, *args: Any, **options: Any) -> None:
        workspace = Workspace.objects.filter(slug=options["workspace"]).first()
        if workspace is None:
            raise CommandError("There is no such workspace.")
        email = options["email"].strip().lower()
        if not User.objects.filter(email__iexact=email).exists():
            raise CommandError("Nobody has this address; an admin adds them on the People page.")
        try:
            add_member(task_actor(workspace, "join_workspace"), email=email, role=options["role"])
        except Problem as problem:
            raise CommandError(str(problem)) from None
        self.stdout.write(f"{email} is {options['role']} of {workspace.slug}.")
