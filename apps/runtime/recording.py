"""Decisions on their way to the database: in batches, beside the answers, never in their way."""

from __future__ import annotations

import atexit
import hmac
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from uuid import UUID

import orjson
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from apps.accounts.models import Workspace
from apps.corpus.hashing import framed
from apps.guardrails.checks.interface import Subject
from apps.runtime import traffic
from apps.runtime.models import Decision, DecisionText

Row = tuple[Decision, DecisionText | None]

MOST_WAITING = 10_000
BATCH = 100
EVERY = 0.2
"""Seconds between two writes while decisions come."""
TRIES, MOST_TRIES = 5, 60
"""After which what the database takes too long for is written row by row, and dropped alone."""

logger = logging.getLogger(__name__)


class Recorder:
    """A bounded queue and the thread that empties it.

    What does not fit is dropped and counted: a slow database must not hold an answer back.
    """

    def __init__(self) -> None:
        self._untold: Counter[UUID] = Counter()
        self._counting = threading.Lock()
        self._waiting: queue.Queue[Row] = queue.Queue(MOST_WAITING)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, decision: Decision, text: DecisionText | None = None) -> bool:
        """Whether it will be written."""
        self._start()
        try:
            self._waiting.put_nowait((decision, text))
        except queue.Full:
            self._drop(decision)
            return False
        return True

    def flush(self, within: float = 5.0) -> None:
        """Wait until all that was put is written, or the time is over."""
        until = time.monotonic() + within
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)

    def _drop(self, decision: Decision) -> None:
        with self._counting:
            self._untold[decision.workspace_id] += 1

    def _start(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._work, name="decisions", daemon=True
                    )
                    self._thread.start()
                    atexit.register(self.flush)

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            if self._waiting.qsize() < BATCH:
                time.sleep(EVERY)
            while len(batch) < BATCH:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            try:
                self._write(batch)
            except Exception:  # the thread has to live: without it nothing is ever written
                logger.exception("decisions_lost")
                for decision, _ in batch:
                    self._drop(decision)
            for _ in batch:
                self._waiting.task_done()

    def _write(self, batch: list[Row]) -> None:
        """Try until it is written: while the database is away the queue fills, and then drops.

        A decision that the database refuses (its workspace is gone) is dropped alone.
        """
        pause = EVERY
        for tries in count():
            try:
                with self._counting:
                    told = self._untold.copy()
                keep(batch, dropped=told)
                with self._counting:  # more may have been dropped meanwhile
                    self._untold -= told
                return
            except (DatabaseError, InterfaceError, TypeError) as error:
                # one row is waited for until a lock is let go of: it may be all that is wrong
                patience = TRIES if len(batch) > 1 else MOST_TRIES
                if isinstance(error, _AWAY) and not (tries > patience and _is_refusal(error)):
                    logger.warning("decisions_wait", extra={"error": type(error).__name__})
                    time.sleep(pause)
                    pause = min(pause * 2, 5.0)
                    continue
                if len(batch) == 1:
                    self._drop(batch[0][0])
                    return
                for row in batch:
                    self._write([row])
                return
            finally:
                connection.close()


_AWAY = (OperationalError, InterfaceError)


def _is_refusal(error: Exception) -> bool:
    """Whether a database that is there said it: it took too long (57014), or is too large (54000).

    A disk that is full is one that is away: somebody will mend it.
    """
    return str(getattr(error.__cause__, "sqlstate", "") or "") in ("57014", "54000")


@transaction.atomic
def keep(batch: Sequence[Row], *, dropped: Mapping[UUID, int] | None = None) -> None:
    """Write decisions, the texts that are kept of them, and their hours' counts.

    Args:
        dropped: decisions lost since the last write, by workspace.
    """
    decisions = [decision for decision, _ in batch]
    if len(decisions) == 1:  # perhaps written already, by a write whose answer was lost
        if Decision.objects.filter(pk=decisions[0].pk).exists():
            traffic.count([], dropped=dropped or {})
            return
        Decision.objects.bulk_create(decisions)
    else:
        _copy(decisions)
    texts = [text for _, text in batch if text is not None]
    DecisionText.objects.bulk_create(texts, ignore_conflicts=True)
    traffic.count(decisions, dropped=dropped or {})


def _copy(decisions: Sequence[Decision]) -> None:
    """COPY, row by row: one large INSERT would keep the threads that answer waiting."""
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(_COPY) as copy,  # type: ignore[attr-defined]
    ):
        for decision in decisions:
            row = [getattr(decision, field.attname) for field in _FIELDS]
            copy.write_row([_json(v) if isinstance(v, list) else v for v in row])
            time.sleep(0)  # a thread that answers goes first


def _json(value: list[Any]) -> str:
    return orjson.dumps(value).decode()


_FIELDS = Decision._meta.concrete_fields
_COPY = (
    f"COPY {Decision._meta.db_table} ({', '.join(field.attname for field in _FIELDS)}) FROM STDIN"
)


recorder = Recorder()


def text_hash(workspace: Workspace, subjects: Sequence[Subject]) -> bytes:
    """HMAC-SHA256 by the workspace's key, without which a short text cannot be guessed from it.

    Of the texts, and of whose they are, where from, and which tool's.
    """
    parts = [subject.text for subject in subjects]
    if any(subject.facts for subject in subjects):
        parts += [orjson.dumps(subject.facts).decode() for subject in subjects]
    return hmac.digest(bytes(workspace.split_key), b"decision" + framed(parts), "sha256")
