"""Rows asked for by hand come back as the models the ORM would have made."""

from __future__ import annotations

import pytest
from django.core.exceptions import FieldDoesNotExist

from apps.accounts.models import Workspace
from apps.base.prepared import columns, first_row, from_row
from tests import factories


def _workspace(names: tuple[str, ...] = ()) -> Workspace:
    made = factories.make_workspace()
    sql = f"SELECT {columns(Workspace, names)} FROM accounts_workspace WHERE id = %s"
    values = first_row(sql, [made.pk])
    assert values is not None
    return from_row(Workspace, values, names)


def test_a_whole_row_is_the_model(db: None) -> None:
    found = _workspace()
    there = Workspace.objects.get(pk=found.pk)
    assert found.__dict__.keys() == there.__dict__.keys()
    assert found.slug == there.slug


def test_fields_that_were_not_asked_for_are_read_when_they_are_wanted(db: None) -> None:
    found = _workspace(("id", "slug"))
    assert found.get_deferred_fields() == _others()
    assert found.name == Workspace.objects.get(pk=found.pk).name


def _others() -> set[str]:
    """The fields that this test does not ask for."""
    all_of_it = {field.attname for field in Workspace._meta.concrete_fields}
    return all_of_it - {"id", "slug"}


def test_no_row_is_none(db: None) -> None:
    assert first_row("SELECT 1 WHERE false", []) is None


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(FieldDoesNotExist, match="slugg"):
        columns(Workspace, ("id", "slugg"))
