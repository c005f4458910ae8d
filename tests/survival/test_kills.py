"""One minute of everything at once, with processes killed: nothing acknowledged is lost.

bench/survival.py is the same for ten minutes and an import of 50,000.
"""

from __future__ import annotations

import pytest

from tests.running import running
from tests.survival.storm import check, storm


@pytest.mark.xdist_group("site")
def test_nothing_is_lost_while_workers_and_web_are_killed() -> None:
    with running() as site:
        found = storm(site, seconds=60, kill_every=17, arriving=5_000)
    assert len(found["ledger"].kills) >= 2
    assert len(found["ledger"].labels) > 200
    check(found)
