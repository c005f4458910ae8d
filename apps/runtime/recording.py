"""Decisions on their way to the database: in batches, beside the answers, never in their way."""

from __future__ import annotations

import atexit
import hmac
import logging
import queue
import threading
import time
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from apps.accounts.models import Workspace
from apps.corpus.hashing import framed
from apps.runtime import traffic
from apps.runtime.models import Decision, DecisionText

Row = tuple[Decision, DecisionText | None]

MOST_WAITING = 10_000
BATCH = 500
EVERY = 0.2
"""Seconds between two writes while decisions come."""

logger = logging.getLogger(__name__)


class Recorder:
    """A bounded queue and the thread that empties it.

    What does not fit is dropped and counted: a slow database must not hold an answer back.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._untold = 0
        self._waiting: queue.Queue[Row] = queue.Queue(MOST_WAITING)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, decision: Decision, text: DecisionText | None = None) -> bool:
        """Whether it will be written."""
        self._start()
        try:
            self._waiting.put_nowait((decision, text))
        except queue.Full:
            self._drop()
            return False
        return True

    def flush(self, within: float = 5.0) -> None:
        """Wait until all that was put is written, or the time is over."""
        until = time.monotonic() + within
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1

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
            time.sleep(EVERY)
            while len(batch) < BATCH:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            self._write(batch)
            for _ in batch:
                self._waiting.task_done()

    def _write(self, batch: list[Row]) -> None:
        """Try until it is written: while the database is away the queue fills, and then drops.

        A decision that the database refuses (its workspace is gone) is dropped alone.
        """
        pause = EVERY
        while True:
            try:
                keep(batch, dropped=self._untold)
                self._untold = 0
                return
            except (OperationalError, InterfaceError) as error:
                logger.warning("decisions_wait", extra={"error": type(error).__name__})
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
            except DatabaseError:
                if len(batch) == 1:
                    self._drop()
                    return
                for row in batch:
                    self._write([row])
                return
            finally:
                connection.close()


@transaction.atomic
def keep(batch: Sequence[Row], *, dropped: int = 0) -> None:
    """Write decisions, the texts that are kept of them, and their hours' counts.

    Args:
        dropped: decisions lost since the last write.
    """
    Decision.objects.bulk_create([row for row, _ in batch], ignore_conflicts=True)
    texts = [text for _, text in batch if text is not None]
    DecisionText.objects.bulk_create(texts, ignore_conflicts=True)
    traffic.count([row for row, _ in batch], dropped=dropped)


recorder = Recorder()


def text_hash(workspace: Workspace, texts: Sequence[str]) -> bytes:
    """HMAC-SHA256 by the workspace's key, without which a short text cannot be guessed from it."""
    return hmac.digest(bytes(workspace.split_key), b"decision" + framed(texts), "sha256")
