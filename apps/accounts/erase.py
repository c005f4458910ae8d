"""Erasing a workspace: the one function that deletes from append-only tables.

It needs the role that owns the tables; the application's role has no right to delete there.
"""

from __future__ import annotations

import pgtrigger
import structlog
from django.apps import apps
from django.db import connection, transaction
from django.db.models import ForeignKey, Model

from apps.accounts.models import AuditHead, Workspace

log = structlog.get_logger(__name__)


def erase_workspace(workspace: Workspace) -> int:
    """Delete a workspace with everything in it; returns the number of rows.

    What remains is one line in the server's log with the head of the erased audit trail.
    """
    head = AuditHead.objects.get(workspace=workspace)
    tables = _tables_below(Workspace)
    deleted = 0
    with transaction.atomic(), pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        # waits for a batch that is being imported, which holds it
        Workspace.objects.select_for_update().get(pk=workspace.pk)
        for table, condition in reversed(tables):
            cursor.execute(f"DELETE FROM {table} WHERE {condition}", [workspace.pk])
            deleted += cursor.rowcount
    log.warning(
        "workspace_erased",
        workspace=workspace.slug,
        rows=deleted,
        audit_head=bytes(head.hash).hex(),
    )
    return deleted


def _tables_below(root: type[Model]) -> list[tuple[str, str]]:
    """Every table that hangs on `root`, nearest first, with its condition.

    By the models, because PostgreSQL is not told of every reference.
    """
    edges = [
        (model._meta.db_table, field.column, field.related_model._meta)
        for model in sorted(apps.get_models(include_auto_created=True), key=str)
        for field in model._meta.concrete_fields
        if isinstance(field, ForeignKey) and not field.null
    ]
    found = {root._meta.db_table: "id = %s"}
    grown = True
    while grown:
        grown = False
        for table, column, parent in edges:
            if parent.db_table in found and table not in found:
                rows = f"SELECT {parent.pk.column} FROM {parent.db_table}"
                found[table] = f"{column} IN ({rows} WHERE {found[parent.db_table]})"
                grown = True
    return list(found.items())
