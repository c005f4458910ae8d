"""A real PostgreSQL for every test, and one running Parapet for the tests that need processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.answering import Server, says, serving
from tests.running import Running, running


@pytest.fixture(scope="session")
def site() -> Iterator[Running]:
    """Parapet as `make run` starts it, once for all tests of the xdist group "site"."""
    with running() as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def _settings_of_tests() -> None:
    """Static files under their own names (nothing is collected here), and hashes of one round."""
    from django.conf import settings

    plain = "django.contrib.staticfiles.storage.StaticFilesStorage"
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": plain}}
    settings.PASSWORD_HASHERS = ["tests.hashers.OneRound"]


@pytest.fixture(scope="session", autouse=True)
def _decisions_are_not_written_beside_tests() -> None:
    """A thread of its own would write after the test that asked for it has undone its data."""
    from apps.runtime.recording import recorder

    recorder._start = lambda: None  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _a_busy_machine_is_late_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.runtime import judging

    monkeypatch.setattr(judging, "DEADLINE", 60.0)


@pytest.fixture(autouse=True)
def _every_test_builds_its_own_bundles() -> None:
    from apps.runtime import bundles

    bundles.forget()


# pytest-xdist reads the groups in this hook, and pytest-django sorts in it
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """The tests of a file stay together; those that need a running site are one group.

    They run one after another, and first, as they take longest.
    """
    for item in items:
        if _group(item) is None:
            running = "site" in getattr(item, "fixturenames", ())
            file = item.nodeid.split("::")[0]
            item.add_marker(pytest.mark.xdist_group("site" if running else file))
    yield
    items.sort(key=lambda item: _group(item) != "site")


def _group(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("xdist_group")
    return mark.args[0] if mark else None


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A judge on this machine that may be asked."""
    with serving(says("safe"), "/v1") as server:
        monkeypatch.setenv("PARAPET_JUDGE_URLS", server.url)
        yield server
