"""Statements that PostgreSQL plans once a connection, instead of each time they are asked.

And those that are written by hand, because the ORM takes longer to put the question than
PostgreSQL to answer it: `columns` asks for whole rows, `from_row` makes models of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.models import Field, Model

M = TypeVar("M", bound=Model)


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


def first_row(sql: str, values: Sequence[Any] | Mapping[str, Any]) -> Iterator[Any] | None:
    """The values of a prepared statement's first row; None without one."""
    with prepared(), connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
    return None if row is None else iter(row)


def columns(model: type[Model], names: Sequence[str] = (), *, table: str = "") -> str:
    """What to select of a table (or its alias) for `from_row`."""
    table = table or model._meta.db_table
    return ", ".join(f'"{table}".{field.column}' for field in _fields(model, tuple(names)))


def from_row(model: type[M], values: Iterator[Any], names: Sequence[str] = ()) -> M:
    """A model of a row's next values.

    Args:
        names: the fields that were asked for, all without any; others are read when asked for.
    """
    fields = _fields(model, tuple(names))
    here = list(islice(values, len(fields)))
    for place, field in enumerate(fields):
        if (read := getattr(field, "from_db_value", None)) is not None:
            here[place] = read(here[place], field.get_col(model._meta.db_table), connection)
    return model.from_db(connection.alias, [field.attname for field in fields], here)


@lru_cache(maxsize=64)
def _fields(model: type[Model], names: tuple[str, ...]) -> list[Field[Any, Any]]:
    """In the order of the model, as from_db wants them."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    if unknown := set(names) - fields.keys():
        raise FieldDoesNotExist(f"{model.__name__} has no {', '.join(sorted(unknown))}.")
    return [field for name, field in fields.items() if not names or name in names]
