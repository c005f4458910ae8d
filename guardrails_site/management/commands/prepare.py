"""manage.py prepare: what `up` does to a database before anything else starts."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from apps.accounts.models import Workspace
from apps.runtime import partitions


class Command(BaseCommand):
    help = "Migrate, collect static files, and load the demo workspace into an empty database."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
        partitions.ensure()
        call_command("collectstatic", verbosity=0, interactive=False, skip_checks=True)
        if not Workspace.objects.exists():
            call_command("demo", skip_checks=True)
