"""Statements that PostgreSQL plans once a connection, instead of each time they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor


@contextmanager
def prepared() -> Iterator[None]:
    """Ask the block's statements as prepared ones.

    For those that are asked on every request and whose best plan does not hang on their values:
    planning them takes longer than running them. All else stays with Django's cursor, which binds
    values before PostgreSQL plans.
    """
    connection.ensure_connection()
    session = connection.connection
    usual, session.cursor_factory = session.cursor_factory, ServerBindingCursor
    try:
        yield
    finally:
        session.cursor_factory = usual
