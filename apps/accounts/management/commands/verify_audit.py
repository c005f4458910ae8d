"""manage.py verify_audit: walk every workspace's audit chain."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.audit import verify
from apps.accounts.models import AuditHead, Workspace


class Command(BaseCommand):
    help = "Check the audit trail; exit code 1 and the places when a chain does not hold."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = 0
        for workspace in Workspace.objects.order_by("slug"):
            for place in verify(workspace):
                broken += 1
                self.stdout.write(f"{place.workspace} entry {place.sequence}: {place.reason}")
            head = AuditHead.objects.get(workspace=workspace)
            self.stdout.write(
                f"{workspace.slug}: {head.sequence} entries, head {bytes(head.hash).hex()}"
            )
        if broken:
            raise CommandError(f"{broken} breaks in the audit trail.")
