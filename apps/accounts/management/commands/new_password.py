"""manage.py new_password EMAIL: a new one-time password for somebody who lost theirs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.models import User
from apps.accounts.people import change_password, new_password


class Command(BaseCommand):
    help = "Print a new one-time password; every session of the person ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].strip().lower()).first()
        if user is None:
            raise CommandError("Nobody has this e-mail address.")
        password = new_password()
        change_password(user=user, password=password, one_time=True)
        self.stdout.write(password)
