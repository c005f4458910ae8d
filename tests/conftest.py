"""A real PostgreSQL for every test, and one running Parapet for the tests that need processes."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# before Django reads its settings: an own data folder, and a database if none is given
if "PARAPET_TEST_DIR" not in os.environ:
    os.environ["PARAPET_TEST_DIR"] = tempfile.mkdtemp(prefix="parapet-test-")
os.environ["PARAPET_DATA_DIR"] = os.environ["PARAPET_TEST_DIR"]
if not os.environ.get("DATABASE_URL"):
    from guardrails_site import embedded

    os.environ["DATABASE_URL"] = embedded.start(ROOT / "var" / "test-postgres")

from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402

from tests.running import Running, running  # noqa: E402


@pytest.fixture(scope="session")
def site() -> Iterator[Running]:
    """Parapet as `make run` starts it, once for all tests of the xdist group "site"."""
    with running() as started:
        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything that needs the running site runs in one process, one after another."""
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("site"))
