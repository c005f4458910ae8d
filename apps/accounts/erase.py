"""Erasing a workspace: the one function that deletes from append-only tables.

It needs the role that owns the tables; the application's role has no right to delete there.
"""

from __future__ import annotations

import pgtrigger
import structlog
from django.db import connection, transaction

from apps.accounts.models import AuditHead, Workspace

log = structlog.get_logger(__name__)


def erase_workspace(workspace: Workspace) -> int:
    """Delete a workspace with everything in it; returns the number of rows.

    What remains is one line in the server's log with the head of the erased audit trail.
    """
    head = AuditHead.objects.get(workspace=workspace)
    tables = _tables_below("accounts_workspace")
    deleted = 0
    with transaction.atomic(), pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
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


def _tables_below(root: str) -> list[tuple[str, str]]:
    """Every table that hangs on `root` by foreign keys, nearest first, with its condition."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT constraint_.conrelid::regclass::text, column_.attname,
                constraint_.confrelid::regclass::text
            FROM pg_constraint constraint_
            JOIN pg_attribute column_ ON column_.attrelid = constraint_.conrelid
                AND column_.attnum = constraint_.conkey[1]
            WHERE constraint_.contype = 'f' AND column_.attnotnull
            ORDER BY 1, 2
            """
        )
        edges = cursor.fetchall()
    found: dict[str, str] = {root: "id = %s"}
    grown = True
    while grown:
        grown = False
        for table, column, parent in edges:
            if parent in found and table not in found:
                key = _primary_key(parent)
                found[table] = f"{column} IN (SELECT {key} FROM {parent} WHERE {found[parent]})"
                grown = True
    return list(found.items())


def _primary_key(table: str) -> str:
    with connection.cursor() as cursor:
        return str(connection.introspection.get_primary_key_column(cursor, table))
