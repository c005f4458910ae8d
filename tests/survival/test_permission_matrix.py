"""Who may do what: every route, method and actor, stated in permission_matrix.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.survival.conftest import World
from tests.survival.world import ACTORS, METHODS, routes, status_of

pytestmark = pytest.mark.django_db
MATRIX = Path(__file__).with_name("permission_matrix.csv")


def stated() -> dict[str, dict[str, dict[str, str]]]:
    """The matrix: route, then method, then actor."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    with MATRIX.open(newline="") as file:
        for row in csv.DictReader(file):
            route, method = row.pop("route"), row.pop("method")
            assert method not in found.setdefault(route, {}), f"{route} {method} has two rows"
            found[route][method] = row
    return found


def test_every_route_and_method_has_a_row_and_every_row_a_route() -> None:
    listed = {(route, method) for route, methods in stated().items() for method in methods}
    assert listed == {(route, method) for route in routes() for method in METHODS}


def test_every_row_states_every_actor() -> None:
    for route, methods in stated().items():
        for method, cells in methods.items():
            assert set(cells) == set(ACTORS), (route, method)
            assert all(cells.values()), (route, method)


@pytest.mark.parametrize("route", sorted(routes()))
def test_the_route_answers_each_actor_as_the_matrix_states(world: World, route: str) -> None:
    arguments = world.own.arguments(route)
    found = {
        method: {actor: status_of(world.send(actor, route, method, arguments)) for actor in ACTORS}
        for method in METHODS
    }
    assert found == stated()[route]
