"""The months of the decision log: each a partition, so that a month can be dropped as a whole."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.db import connection

MONTHS_AHEAD = 24


def ensure(months: int = MONTHS_AHEAD) -> list[str]:
    """Make the partitions from this month on that are missing; needs the role that owns the table.

    Returns their names. What falls into no month is kept in the partition `rest`; a month that has
    decisions there stays there.
    """
    made = []
    now = datetime.now(UTC)
    for ahead in range(months):
        start, end = _month(now, ahead), _month(now, ahead + 1)
        name = f"runtime_decision_{start:%Y_%m}"
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT to_regclass(%s) IS NOT NULL OR EXISTS (SELECT FROM runtime_decision_rest"
                " WHERE id >= %s AND id < %s)",
                [name, first_id(start), first_id(end)],
            )
            if cursor.fetchone() == (True,):
                continue
            cursor.execute(
                f"CREATE TABLE {name} PARTITION OF runtime_decision"
                f" FOR VALUES FROM ('{first_id(start)}') TO ('{first_id(end)}')"
            )
        made.append(name)
    return made


def add_index(name: str, columns: str, where: str) -> None:
    """Index the log month by month, so that no decision waits to be written; outside transactions.

    What an interrupted build left is begun anew.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX IF EXISTS {name}")
        cursor.execute(f"CREATE INDEX {name} ON ONLY runtime_decision ({columns}) WHERE {where}")
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'runtime_decision'::regclass"
        )
        for (month,) in cursor.fetchall():
            part = f"{month}_{name.removeprefix('decision_')}"
            cursor.execute(f"SELECT EXISTS (SELECT FROM {month})")
            there = cursor.fetchone() == (True,)
            cursor.execute(f"DROP INDEX IF EXISTS {part}")
            cursor.execute(
                f"CREATE INDEX {'CONCURRENTLY' if there else ''} {part}"
                f" ON {month} ({columns}) WHERE {where}"
            )
            cursor.execute(f"ALTER INDEX {name} ATTACH PARTITION {part}")


def first_id(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment: its first 48 bits are milliseconds since 1970.

    That of 1970 for whatever was before.
    """
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


def seconds_of(key: UUID) -> float:
    """The seconds since 1970 at which a UUIDv7 was made, to the millisecond."""
    return (key.int >> 80) / 1000


def moment_of(key: UUID) -> datetime:
    """The same as a moment; of a key of our own, for any other may say what no calendar has."""
    return datetime.fromtimestamp(seconds_of(key), UTC)


def _month(moment: datetime, ahead: int) -> datetime:
    years, month = divmod(moment.month - 1 + ahead, 12)
    return datetime(moment.year + years, month + 1, 1, tzinfo=UTC)
