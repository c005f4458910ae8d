"""Keyset pages: each row once, in order, forwards and back, whatever the size."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from apps.accounts.models import User
from apps.base.keyset import paginate, paginate_sequence
from apps.base.problems import Problem
from apps.policies.models import Policy


@pytest.fixture(scope="module")
def people(django_db_setup: None, django_db_blocker: Any) -> Any:
    from django.db import transaction

    with django_db_blocker.unblock(), transaction.atomic():
        for number in range(23):
            User.objects.create_user(f"p{number}@keyset.example", name=f"name {number % 4}")
        yield User.objects.filter(email__endswith="@keyset.example")
        transaction.set_rollback(True)


def walk(rows: Any, size: int, order: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """The rows met walking forward to the end, and then back to the start."""
    forward, back = [], []
    page = paginate(rows, cursor="", size=size, order=order)
    forward += page.rows
    while page.next:
        page = paginate(rows, cursor=page.next, size=size, order=order)
        forward += page.rows
    back = list(page.rows)
    while page.previous:
        page = paginate(rows, cursor=page.previous, size=size, order=order)
        back = page.rows + back
    return forward, back


@pytest.mark.django_db
@pytest.mark.parametrize("order", [("id",), ("-id",), ("name", "id"), ("-name", "-id")])
def test_walking_forward_and_back_meets_each_row_once_in_order(
    people: Any, order: tuple[str, ...]
) -> None:
    expected = list(people.order_by(*order))
    for size in (1, 2, 3, 7, 22, 23, 24, 200):
        assert walk(people, size, order) == (expected, expected)


@pytest.mark.django_db
def test_an_empty_list_is_one_empty_page(people: Any) -> None:
    page = paginate(people.none(), cursor="", order=("id",))
    assert (page.rows, page.next, page.previous) == ([], "", "")


@pytest.mark.django_db
def test_a_row_that_goes_away_does_not_repeat_or_lose_another(people: Any) -> None:
    page = paginate(people, cursor="", size=5, order=("id",))
    seen = [row.pk for row in page.rows]
    people.filter(pk=seen[-1]).delete()
    rest = paginate(people, cursor=page.next, size=100, order=("id",))
    assert len(seen) + len(rest.rows) == 23
    assert not set(seen) & {row.pk for row in rest.rows}


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


BAD = [
    "x", "=", "é", "AAAA", "%", "\x00", " ", cursor(5), cursor([]), cursor([0]), cursor([0, 1]),
    cursor([0, "not a uuid"]), cursor([0, "x", "y"]), cursor({"a": 1, "b": 2}), cursor([0, None]),
    cursor([[], "\x00"]), cursor([0, "1" * 500]), cursor([0, ["x"]]), cursor([1, {}]),
    cursor([0, "2020-13-45"]), cursor("abc"),
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("text", BAD)
def test_a_cursor_that_was_not_given_out_is_refused(people: Any, text: str) -> None:
    with pytest.raises(Problem) as caught:
        paginate(people, cursor=text, order=("id",))
    assert caught.value.status == 400


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["9" * 40, "-1", "1.5", "x", "٣"])
def test_a_number_in_a_cursor_that_no_row_can_have_is_harmless(value: str) -> None:
    with suppress(Problem):
        page = paginate(Policy.objects.all(), cursor=cursor([0, value]), order=("retrain_after",))
        assert page.rows == []


@pytest.mark.django_db
@given(some.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_cursor_or_a_problem(text: str) -> None:
    with suppress(Problem):
        paginate(User.objects.all(), cursor=text, order=("id",))


@given(some.lists(some.integers()), some.integers(1, 9))
def test_a_derived_list_is_walked_like_a_stored_one(rows: list[int], size: int) -> None:
    page = paginate_sequence(rows, cursor="", size=size)
    found = list(page.rows)
    while page.next:
        page = paginate_sequence(rows, cursor=page.next, size=size)
        found += page.rows
    back = list(page.rows)
    while page.previous:
        page = paginate_sequence(rows, cursor=page.previous, size=size)
        back = page.rows + back
    assert found == rows
    assert not rows or back[: len(rows)] == rows


@pytest.mark.parametrize("text", [*BAD, cursor([0, "-1"]), cursor([0, "99"]), cursor([0, "٣x"])])
def test_a_position_outside_a_derived_list_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        paginate_sequence([1, 2, 3], cursor=text)
