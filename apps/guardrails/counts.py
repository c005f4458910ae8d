"""Texts into counts, once: document counts as they arrive, example counts as they are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from django.db import connection, transaction
from django.db.models.functions import Left
from numpy.typing import NDArray
from psycopg.pq import Format

from apps.base.prepared import prepared
from apps.corpus.importing import Arrival
from apps.corpus.models import Example, Side
from apps.guardrails.learning import features
from apps.guardrails.models import DocumentCounts, ExampleCounts
from apps.policies.models import Policy

RECENT = 500
_CHUNK = 500


def count_documents(arrival: Arrival) -> None:
    """Add a batch's train-side texts to the policy's document counts, in its transaction."""
    texts = [
        text for text, side in zip(arrival.texts, arrival.sides, strict=True) if side == Side.TRAIN
    ]
    if not texts:
        return
    added = np.zeros(features.COLUMNS, np.int32)
    for start in range(0, len(texts), _CHUNK):
        added += features.document_frequency(features.extract(texts[start : start + _CHUNK]))
    with prepared():  # half a megabyte is bound as it is, not written into the statement
        row, created = DocumentCounts.objects.select_for_update().get_or_create(
            policy=arrival.policy,
            defaults={
                "extractor_version": features.EXTRACTOR_VERSION,
                "documents": len(texts),
                "frequency": added.astype("<i4").tobytes(),
            },
        )
        if not created:
            row.documents += len(texts)
            row.frequency = (_frequency(row) + added).astype("<i4").tobytes()
            row.save(update_fields=["documents", "frequency"])


def document_counts(policy: Policy) -> tuple[NDArray[np.int32], int]:
    """The policy's document frequency of every column, and the number of documents."""
    row = DocumentCounts.objects.filter(policy=policy).first()
    if row is None:
        return np.zeros(features.COLUMNS, np.int32), 0
    return _frequency(row), row.documents


def _frequency(row: DocumentCounts) -> NDArray[np.int32]:
    return np.frombuffer(bytes(row.frequency), "<i4").astype(np.int32)


def example_counts(examples: Sequence[UUID]) -> features.Counts:
    """The counts of these examples, in this order; extracts and keeps those that are missing."""
    blobs: dict[UUID, bytes] = {}
    wanted = list(dict.fromkeys(examples))
    for start in range(0, len(wanted), 5000):
        with prepared(), connection.cursor() as cursor:
            cursor.cursor.format = Format.BINARY  # as hex digits they would be twice as many bytes
            cursor.execute(
                "SELECT example_id, counts FROM guardrails_examplecounts"
                " WHERE example_id = ANY(%s) AND extractor_version = %s",
                [wanted[start : start + 5000], features.EXTRACTOR_VERSION],
            )
            blobs.update(cursor.fetchall())
    missing = sorted(pk for pk in wanted if pk not in blobs)
    for start in range(0, len(missing), _CHUNK):
        blobs.update(_extract(missing[start : start + _CHUNK]))
    return features.unpack([blobs[pk] for pk in examples])


def beginnings(examples: Sequence[UUID], length: int) -> list[str]:
    """The first code points of these examples' texts, in this order."""
    texts = dict(Example.objects.filter(pk__in=examples).values_list("pk", Left("output", length)))
    return [texts[pk] for pk in examples]


def keep_recent_counts(policy: Policy, sequence: int) -> int:
    """Extract the texts labelled just before `sequence`, ahead of the retrain that will want them.

    Returns how many were missing. What is older and still missing, the retrain extracts itself.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT there.example_id FROM labeling_label label"
            " JOIN corpus_policyexample there ON there.id = label.policy_example_id"
            " LEFT JOIN guardrails_examplecounts kept ON kept.example_id = there.example_id"
            " WHERE label.policy_id = %(policy)s AND kept.example_id IS NULL"
            "   AND label.sequence > %(since)s"
            " ORDER BY there.example_id",
            {"policy": policy.pk, "since": sequence - RECENT},
        )
        missing = [example for (example,) in cursor.fetchall()]
    for start in range(0, len(missing), _CHUNK):
        _extract(missing[start : start + _CHUNK])
    return len(missing)


def _extract(examples: Sequence[UUID]) -> dict[UUID, bytes]:
    """Extract and keep; callers come in the order of ids, so that two of them never deadlock."""
    texts = dict(Example.objects.filter(pk__in=examples).values_list("pk", "output"))
    blobs = features.pack(features.extract([texts[pk] for pk in examples]))
    with transaction.atomic():
        ExampleCounts.objects.bulk_create(
            [
                ExampleCounts(
                    example_id=pk, extractor_version=features.EXTRACTOR_VERSION, counts=blob
                )
                for pk, blob in zip(examples, blobs, strict=True)
            ],
            update_conflicts=True,
            unique_fields=["example"],
            update_fields=["extractor_version", "counts"],
        )
    return dict(zip(examples, blobs, strict=True))
