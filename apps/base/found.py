"""The one row that somebody asks for."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, QuerySet

from apps.base.problems import NotFound

R = TypeVar("R", bound=Model)


def the_one(rows: QuerySet[R]) -> R:
    """The row there is; raises NotFound where there is none, or none for this person."""
    found = rows.first()
    if found is None:
        raise NotFound
    return found
