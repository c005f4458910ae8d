"""Calls in forks: order, failures, cancels, and a fork that dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

import psutil
import pytest

from apps.guardrails.learning import forks


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    before = psutil.Process().children()
    yield
    assert set(psutil.Process().children()) <= set(before)


def fail() -> int:
    raise ValueError("too few")


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def slow(seconds: float, result: int) -> int:
    time.sleep(seconds)
    return result


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_answers_stand_in_the_order_of_the_calls(at_once: int) -> None:
    calls = [partial(slow, 0.02 * (4 - number), number) for number in range(4)]
    assert forks.results(calls, at_once=at_once) == [0, 1, 2, 3]


def test_calls_run_in_other_processes_at_the_same_time() -> None:
    before = time.monotonic()
    found = forks.results([partial(slow, 1.0, n) for n in range(4)], at_once=4)
    assert found == [0, 1, 2, 3]
    assert time.monotonic() - before < 3
    assert os.getpid() not in forks.results([os.getpid] * 3, at_once=2)


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_a_call_raises_is_raised(at_once: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        forks.results([fail, partial(slow, 30, 1)][:at_once], at_once=at_once)


@pytest.mark.parametrize(("call", "error"), [(fail, ValueError), (die, ChildProcessError)])
def test_a_failure_ends_the_others(call: Callable[[], int], error: type[Exception]) -> None:
    with pytest.raises(error):
        forks.results([call, partial(slow, 60, 1)], at_once=2)


def test_the_tick_comes_while_calls_run_and_may_end_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "TICK", 0.01)
    ticks: list[int] = []

    def tick(done: int) -> None:
        ticks.append(done)
        if len(ticks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forks.results([partial(slow, 60, 1)] * 2, at_once=2, tick=tick)
    assert ticks == [0, 0, 0]
