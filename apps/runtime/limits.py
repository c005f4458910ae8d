"""How fast each token may ask for checks: one bucket each, in a file all web processes map.

A bucket fills at the token's rate and holds BURST seconds of it. Taking from one is a lock and
forty bytes: the check path asks no database. Several machines have buckets of their own.
No Django.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

BURST = 2.0
"""Seconds of checks that an idle token saves up."""

SLOTS = 4096
_LOOKED_AT = 8
# whose it is, how many checks are left, when that was (monotonic seconds), how many were refused
_SLOT = struct.Struct("<16sddQ")


@dataclass(frozen=True)
class Taken:
    """What taking from a bucket gave.

    Args:
        limit: checks a second.
        remaining: checks that may follow at once.
        wait: seconds until the next one may; 0 when it may now.
    """

    allowed: bool
    limit: int
    remaining: int
    wait: float


class Buckets:
    """The buckets of one file, safe among threads and processes; OSError without a file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with _alone(self._file):
                _make_room(self._file)
        except OSError:
            os.close(self._file)
            raise
        self._slots = mmap.mmap(self._file, SLOTS * _SLOT.size)
        self._lock = threading.Lock()

    def take(
        self,
        name: UUID,
        rate: int,
        *,
        checks: int = 1,
        anyway: bool = False,
        now: float | None = None,
    ) -> Taken:
        """Take checks out of a token's bucket, where at least one is in it.

        Args:
            rate: checks a second.
            checks: how many; more than are in it leave a debt, which is waited for afterwards.
            anyway: also out of an empty one: the rest of a batch whose first check was let in.
            now: monotonic seconds, for tests.
        """
        with self._alone():
            now = time.monotonic() if now is None else now  # not before it is this one's turn
            place, owner, saved, since, refused = self._find(name)
            if owner != name.bytes or now < since:  # nobody's, another's, or of before a restart
                saved, refused = rate * BURST, 0
            else:
                saved = min(rate * BURST, saved + (now - since) * rate)
            allowed = anyway or saved >= 1
            saved -= checks if allowed else 0
            _SLOT.pack_into(self._slots, place, name.bytes, saved, now, refused + (not allowed))
        wait = 0.0 if saved >= 1 else (1 - saved) / rate
        return Taken(allowed, rate, max(0, math.floor(saved)), wait)

    def refused(self, name: UUID) -> int:
        """How many checks of a token were refused, since it last had no bucket."""
        with self._alone():
            _, owner, _, _, refused = self._find(name)
        return refused if owner == name.bytes else 0

    def _find(self, name: UUID) -> tuple[int, bytes, float, float, int]:
        """Where the token's slot lies and what it says; else that of the longest unused near it."""
        owner = name.bytes
        first = name.int % SLOTS
        slots = []
        for step in range(_LOOKED_AT):
            place = (first + step) % SLOTS * _SLOT.size
            slot = (place, *_SLOT.unpack_from(self._slots, place))
            if slot[1] == owner:
                return slot
            slots.append(slot)
        return min(slots, key=lambda slot: slot[3])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A thread of this process at a time, and a process of this machine at a time."""
        with self._lock, _alone(self._file):
            yield


@contextmanager
def _alone(file: int) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _make_room(file: int) -> None:
    """Write the file in full: a map of what has no place on the disk would kill its process.

    One process at a time: another may have buckets in it already.
    """
    found = os.fstat(file)
    if found.st_uid != os.geteuid() or found.st_nlink != 1:
        raise OSError("The file of the limits is not this user's alone.")
    missing = SLOTS * _SLOT.size - found.st_size
    if missing > 0 and os.pwrite(file, bytes(missing), found.st_size) < missing:
        raise OSError("There is no room for the file of the limits.")
