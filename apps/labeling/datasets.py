"""Frozen sets of labels: which answer each example had at a watermark."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.labeling.models import DatasetVersion, LabelCounter
from apps.policies.models import Policy


@dataclass(frozen=True)
class Answer:
    """The current answer of one slot at a watermark (its consensus, with one answer an item)."""

    label: UUID
    policy_example: int
    example: UUID
    group_hash: bytes
    verdict: str
    stream: str
    version: UUID


def answers(policy: Policy, *, side: str, watermark: int) -> list[Answer]:
    """The answers of a side as they stood after label number `watermark`, in label order.

    Train-side answers of sources that may not be trained on are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT latest.id, there.id, there.example_id, there.group_hash, latest.verdict,
                latest.stream, latest.policy_version_id
            FROM (
                SELECT DISTINCT ON (slot_id) id, slot_id, policy_example_id, sequence, verdict,
                    stream, policy_version_id
                FROM labeling_label
                WHERE policy_id = %s AND sequence <= %s AND slot_id IS NOT NULL
                ORDER BY slot_id, sequence DESC
            ) latest
            JOIN corpus_policyexample there ON there.id = latest.policy_example_id
            JOIN corpus_source source ON source.id = there.source_id
            WHERE there.side = %s AND latest.verdict <> 'retracted'
                AND (there.side = 'audit' OR source.may_train)
            ORDER BY latest.sequence
            """,
            [policy.pk, watermark, side],
        )
        return [Answer(a, b, c, bytes(d), e, f, g) for a, b, c, d, e, f, g in cursor.fetchall()]


def freeze(policy: Policy) -> int:
    """Take today's watermark and start counting "new labels" from here."""
    with transaction.atomic():
        counter, _ = LabelCounter.objects.select_for_update().get_or_create(policy=policy)
        counter.frozen, counter.since_frozen = counter.sequence, 0
        counter.save(update_fields=["frozen", "since_frozen"])
        return counter.sequence


def dataset_hash(rows: Sequence[Answer], **covered: Any) -> str:
    """SHA-256 over label ids and verdicts and whatever else decides what is learnt from them."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.label.bytes + row.verdict.encode() + row.stream.encode() + b"\0")
    for name in sorted(covered):
        digest.update(f"{name}={covered[name]}\0".encode())
    return digest.hexdigest()


def keep_dataset(
    policy: Policy, *, content_hash: str, watermark: int, violates: int, complies: int
) -> DatasetVersion:
    """The dataset version of this hash, made if it is new."""
    dataset, _ = DatasetVersion.objects.get_or_create(
        policy=policy,
        content_hash=content_hash,
        defaults={"watermark": watermark, "violates": violates, "complies": complies},
    )
    return dataset
