import csv
import pytest

pytestmark = pytest.mark.django_db
from tests.survival.world import *
from tests.survival.world import ACTORS, METHODS, routes, status_of


def test_gen(world):
    with open("/tmp/matrix.csv", "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["route", "method", *ACTORS])
        for r in routes():
            for m in METHODS:
                row = []
                for a in ACTORS:
                    ans = world.send(a, r, m, world.own.arguments(r))
                    s = status_of(ans)
                    if s[0] == "5":
                        print("5xx", r, m, a)
                    row.append(s)
                w.writerow([r, m, *row])
