"""The world of the survival tests: made once a file, each request undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction

from tests.survival.world import Caller, Space, callers, make_space


@dataclass
class World:
    """The workspace `own`, the one beside it, and who calls."""

    own: Space
    other: Space
    callers: dict[str, Caller]

    def send(self, actor: str, route: str, method: str, arguments: dict[str, Any]) -> Any:
        """A request whose effects are undone."""
        with transaction.atomic():
            answer = self.callers[actor].send(route, method, arguments, self.own)
            answer.whole = answer.getvalue()  # a stream reads the database as it goes
            transaction.set_rollback(True)
        return answer


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """Everything there is, once for all tests of a file."""
    with django_db_blocker.unblock(), transaction.atomic():
        own, other = make_space("own"), make_space("other")
        yield World(own, other, callers(own, other))
        transaction.set_rollback(True)
