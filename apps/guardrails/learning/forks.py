"""Calls side by side in forks of this process.

Threads will not do for the fits: liblinear draws from one random generator a process, so threads
would share its numbers and the same seed would give other weights. Celery forbids its workers the
processes of `multiprocessing`; a plain fork is enough, since each only computes and answers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

Result = TypeVar("Result")

TICK = 1.0


def processors() -> int:
    """How many processors this process may use; 1 where forks are not safe (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def results(
    calls: Sequence[Callable[[], Result]],
    *,
    at_once: int,
    tick: Callable[[int], None] | None = None,
) -> list[Result]:
    """What the calls return, in their order; they begin in this order, the longest goes first.

    Args:
        at_once: how many run at once; with 1 all run here, without a fork.
        tick: called with how many are done, at each end and at least each second between; what
            it raises ends the work.

    Raises what a call raises, and ChildProcessError when a fork died without an answer.
    """
    tick = tick or (lambda done: None)
    if at_once == 1:
        found = []
        for call in calls:
            found.append(call())
            tick(len(found))
        return found
    answers: dict[int, Result] = {}
    waiting = list(enumerate(calls))
    running: dict[Connection, tuple[int, int]] = {}
    try:
        while len(answers) < len(calls):
            while waiting and len(running) < at_once:
                number, call = waiting.pop(0)
                reader, child = _fork(call)
                running[reader] = (number, child)
            ready = wait(list(running), timeout=TICK)
            for reader in [reader for reader in running if reader in ready]:
                number, child = running[reader]
                answers[number] = _answer(reader)
                os.waitpid(child, 0)
                del running[reader]
            tick(len(answers))
    finally:
        for _, child in running.values():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return [answers[number] for number in range(len(calls))]


def _fork(call: Callable[[], Any]) -> tuple[Connection, int]:
    """Start a call in a child; the connection that brings (whether it succeeded, what it gave)."""
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if child:
        writer.close()
        return reader, child
    try:  # whatever happens, nothing of the parent's (its database, its handlers) may go on here
        try:
            answer = (True, call())
        except BaseException as error:
            answer = (False, error)
        writer.send(answer)
    finally:
        os._exit(0)


def _answer(reader: Connection) -> Any:
    try:
        succeeded, value = reader.recv()
    except EOFError:
        raise ChildProcessError("A fork died before it answered.") from None
    finally:
        reader.close()
    if not succeeded:
        raise value
    return value
