"""Imports: from an uploaded file to examples of a policy, batch by batch.

Each batch is one transaction: rows, counts and the watermark together. So an import killed at
any moment goes on where it was, and ends with each row once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.actor import Actor, task_actor
from apps.accounts.audit import record
from apps.base import jobs
from apps.base.gate import check_text, check_value, parse_json
from apps.base.ids import uuid7
from apps.base.invisible import is_blank
from apps.base.jobs import Status
from apps.base.problems import FieldError, NotFound, Problem
from apps.corpus import reading
from apps.corpus.hashing import content_hash, group_hash, permanent_numbers
from apps.corpus.models import CorpusCounter, Import, Side, Source
from apps.policies.models import Policy

BATCH = 10_000
BATCH_CHARACTERS = 8 * 2**20
"""Of a file's texts, which are in memory at once; what it takes must stay far below a lease."""
FIELDS = (
    "id",
    "prompt",
    "output",
    "context",
    "group",
    "model",
    "language",
    "tags",
    "metadata",
)
HEARTBEAT = jobs.LEASE.total_seconds() / 4
_LIMITS = {"id": 200, "model": 200, "language": 35, "group": 2000}
_KEPT_DRAFTS = timedelta(hours=24)

T = TypeVar("T")


@dataclass(frozen=True)
class Arrival:
    """What a committed batch brought to a policy: handed to the apps that keep more of it."""

    policy: Policy
    number: int
    ids: list[int]
    sides: list[str]
    texts: list[str]


# Called inside the batch's transaction; guardrails_site/wiring.py fills it.
on_arrival: list[Callable[[Arrival], None]] = []
# Called after commit with the id of an import that waits for a worker.
enqueue: list[Callable[[str], None]] = []


@transaction.atomic
def get_source(
    actor: Actor, *, name: str, licence: str = "", may_train: bool | None = None
) -> Source:
    """The workspace's source of this name; a new one keeps the licence and consent given now.

    Args:
        licence, may_train: "" and None for what the source has; a new one may be trained on.

    Raises:
        Problem: 409 where the source has another licence or consent than the one that is given.
    """
    if not name.strip() or len(name) > 200 or len(licence) > 200:
        raise Problem(
            "Name the source in 1 to 200 characters.",
            errors=[FieldError("/source", "1 to 200 characters.")],
        )
    source, created = Source.objects.get_or_create(
        workspace=actor.workspace,
        name=name,
        defaults={"licence": licence, "may_train": may_train is not False},
    )
    if created:
        record(actor, "source.create", source, name=name, may_train=source.may_train)
    elif licence not in ("", source.licence) or may_train not in (None, source.may_train):
        raise Problem(
            "A source of this name has another licence, or says otherwise whether its texts may be "
            "trained on. Give the new texts a source of their own.",
            code="source_differs",
            status=409,
            errors=[FieldError("/source", "Choose another name.")],
        )
    return source


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def upload(actor: Actor, *, policy: Policy, file_name: str, chunks: Iterable[bytes]) -> Import:
    """Put a file on disk, unread but for its name, as an import that waits for its mapping."""
    try:
        file_format = reading.format_of(file_name)
    except reading.Unreadable as error:
        raise _unreadable(error) from None
    job = Import(
        workspace=actor.workspace,
        policy=policy,
        status=Status.DRAFT,
        created_by=actor.membership,
        file_name=Path(file_name).name[-255:],
        format=file_format,
    )
    path = file_of(job)
    size = 0
    try:
        with open(path, "wb", opener=_private) as file:
            for chunk in chunks:
                size += len(chunk)
                if size > reading.MAXIMUM_PACKED:
                    raise Problem(
                        f"A file may have at most {reading.MAXIMUM_PACKED // 2**20} MB; "
                        "gzip it or split it.",
                        code="too_large",
                        status=413,
                    )
                file.write(chunk)
        if not size:
            raise Problem("The file is empty.", code="empty")
        with transaction.atomic():
            job.save()
            record(actor, "import.upload", job, policy=policy.slug, bytes=size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return job


def preview(job: Import) -> tuple[list[str], list[reading.Row]]:
    """The columns and first rows of an uploaded file."""
    try:
        return reading.columns(file_of(job), job.format)
    except reading.Unreadable as error:
        raise _unreadable(error) from None


def guess_mapping(names: Iterable[str]) -> dict[str, str]:
    """A first mapping from Parapet's fields to a file's columns, by their usual names."""
    usual = {
        "output": ("output", "response", "completion", "answer", "text", "generation"),
        "prompt": ("prompt", "instruction", "question", "input", "query"),
        "id": ("id", "external_id", "uid", "key"),
        "context": ("context", "system", "system_prompt"),
        "group": ("group", "group_id"),
        "model": ("model", "model_name"),
        "language": ("language", "lang", "locale"),
        "tags": ("tags",),
        "metadata": ("metadata", "meta"),
    }
    by_name = {name.strip().lower(): name for name in names}
    return {
        wanted: next((by_name[word] for word in words if word in by_name), "")
        for wanted, words in usual.items()
    }


@transaction.atomic
def start_import(
    actor: Actor, *, job: Import, mapping: Mapping[str, str], source: Source
) -> Import:
    """Confirm the mapping and queue the import.

    Args:
        mapping: for each of FIELDS the column of the file that fills it; "" or absent for none.
    """
    job = Import.objects.select_for_update().get(pk=job.pk)
    if job.status != Status.DRAFT:
        raise Problem("This import was started already.", code="started", status=409)
    errors = [
        FieldError(f"/mapping/{name}", f"Fields are: {', '.join(FIELDS)}.")
        for name in mapping
        if name not in FIELDS
    ]
    errors += [
        FieldError(f"/mapping/{name}", "Name a column.")
        for name, column in mapping.items()
        if not isinstance(column, str)
    ]
    if not mapping.get("output"):
        errors.append(FieldError("/mapping/output", "Say which column is the model's output."))
    if errors:
        raise Problem("The mapping is wrong.", code="mapping", errors=errors)
    job.mapping = {name: column for name, column in mapping.items() if column}
    job.source = source
    job.status = Status.QUEUED
    job.enqueued_at = timezone.now()
    job.save()
    record(actor, "import.start", job, policy=job.policy.slug, source=source.name)
    transaction.on_commit(lambda: _enqueue(str(job.pk)))
    return job


def request_cancel(actor: Actor, *, job: Import) -> None:
    """Ask an import to stop; what is committed stays, and the counts say how much that is."""
    with transaction.atomic():
        if jobs.request_cancel(job):
            record(actor, "import.cancel", job)
    # one that no worker has yet ends at once
    end_without_worker()


def run_import(import_id: str) -> None:
    """Do an import, or what is left of it. Safe to call twice, and twice at once."""
    jobs.run(Import, import_id, _import, _end)


def _import(job: Import) -> None:
    try:
        _read_whole(job)
        _commit_batches(job)
    except reading.Unreadable as error:
        raise jobs.Failed(str(error)) from None
    _end(job, Status.SUCCEEDED)


def _end(job: Import, status: Status, reason: str = "") -> None:
    with transaction.atomic():
        jobs.finish(job, status, reason=reason)
        _clear_up(job)


def end_without_worker() -> None:
    """End imports that no worker will."""
    for job in jobs.end_without_worker(Import):
        _clear_up(job)


@transaction.atomic
def _clear_up(job: Import) -> None:
    """Write down how an import ended, and remove its file."""
    record(
        task_actor(job.workspace, "import"),
        f"import.{job.status}",
        job,
        new=job.new,
        duplicates=job.duplicates,
        rejected=job.rejected,
        reason=job.reason,
    )
    transaction.on_commit(lambda: file_of(job).unlink(missing_ok=True))


def remove_old_drafts() -> None:
    """Forget uploads that nobody started within a day."""
    old = Import.objects.filter(status=Status.DRAFT, created_at__lt=timezone.now() - _KEPT_DRAFTS)
    for job in old:
        file_of(job).unlink(missing_ok=True)
        job.delete()


def file_of(job: Import) -> Path:
    """Where the uploaded file lies until the import is over; never under its own name."""
    return Path(settings.UPLOAD_DIR) / f"{job.pk}.upload"


def _enqueue(import_id: str) -> None:
    for send in enqueue:
        send(import_id)


def _unreadable(error: reading.Unreadable) -> Problem:
    return Problem(str(error), code="unreadable")


def _read_whole(job: Import) -> None:
    """One pass over the file before anything of it is kept: all of it can be read, or none is."""
    path = file_of(job)
    if not path.exists():
        raise reading.Unreadable("The uploaded file is gone; upload it again.")
    jobs.heartbeat(job, step="reading the file")
    if job.total_rows is not None:
        return
    with ThreadPoolExecutor(1) as ahead:
        total = _waited_for(ahead.submit(reading.count_rows, path, job.format), job)
    if job.format == "csv":
        names, _ = reading.columns(path, job.format)
        absent = sorted(set(job.mapping.values()) - set(names))
        if absent:
            raise reading.Unreadable(
                f"The file has no column for: {', '.join(_fields_of(job, absent))}. "
                "Map the columns it has."
            )
    Import.objects.filter(pk=job.pk).update(total_rows=total)
    job.total_rows = total


def _fields_of(job: Import, columns: list[str]) -> list[str]:
    return [name for name, column in job.mapping.items() if column in columns]


def _commit_batches(job: Import) -> None:
    batches = _batches(job, bytes(job.workspace.split_key), job.policy)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(next, batches, None)
        while (batch := _waited_for(coming, job)) is not None:
            with transaction.atomic():
                _send(batch)
                # read while PostgreSQL works: two threads of Python would only wait for each other
                coming = ahead.submit(next, batches, None)
                _commit(job, batch)
            done = job.rows / job.total_rows if job.total_rows else 1.0
            jobs.heartbeat(job, progress=min(done, 1.0), step="importing")


def _waited_for(coming: Future[T], job: Import) -> T:
    """What another thread reads; the job is kept meanwhile."""
    while not wait([coming], timeout=HEARTBEAT).done:
        jobs.heartbeat(job)
    return coming.result()


def _batches(job: Import, key: bytes, policy: Policy) -> Iterator[_Batch]:
    """What is left of the file, checked; asks the database nothing."""
    rows = reading.rows(file_of(job), job.format)
    batch = _Batch()
    for number, row in rows:
        if number < job.next_row:
            continue
        batch.add(number, row, job.mapping, policy, key)
        if batch.is_full:
            yield batch
            batch = _Batch()
    if batch.next_row:
        yield batch


@dataclass
class _Batch:
    """Checked rows in COPY's text format, their outputs, what was rejected, where to go on."""

    next_row: int = 0
    characters: int = 0
    lines: list[str] = field(default_factory=list)
    outputs: dict[int, str] = field(default_factory=dict)
    rejected: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        rows = len(self.outputs) + len(self.rejected)
        return rows >= BATCH or self.characters >= BATCH_CHARACTERS

    def add(
        self,
        number: int,
        row: reading.Row,
        mapping: Mapping[str, str],
        policy: Policy,
        key: bytes,
    ) -> None:
        self.next_row = number + 1
        if isinstance(row, reading.BadRow):
            self.rejected.append((number, row.reason))
            return
        try:
            values = _values(row, mapping)
        except Problem as problem:
            self.rejected.append((number, problem.detail))
            return
        content = content_hash(values["prompt"], values["output"], values["context"])
        group = group_hash(key, policy.slug, values["group"], values["output"])
        side_u, group_u, u = permanent_numbers(key, group, content)
        side = Side.AUDIT if side_u < policy.audit_fraction else Side.TRAIN
        cells = (
            str(number),
            str(uuid7()),
            f"\\\\x{content.hex()}",
            _escaped(values["prompt"]),
            _escaped(values["output"]),
            _escaped(values["context"]),
            _escaped(values["model"]),
            _escaped(values["language"]),
            _escaped(json.dumps(values["tags"])) if values["tags"] else "[]",
            _escaped(json.dumps(values["metadata"])) if values["metadata"] else "{}",
            _escaped(values["id"]),
            side.value,
            f"\\\\x{group.hex()}",
            repr(group_u),
            repr(u),
        )
        self.lines.append("\t".join(cells))
        self.characters += len(self.lines[-1])
        self.outputs[number] = values["output"]


# what stands for something else in COPY's text format
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _escaped(cell: str) -> str:
    return cell.translate(_COPY_ESCAPES) if cell else cell


def _values(row: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """The mapped fields of a row, checked; raises Problem with the reason to reject it."""
    values: dict[str, Any] = {}
    for name in FIELDS:
        value = row.get(mapping.get(name, "")) if name in mapping else None
        if name == "tags":
            values[name] = _tags(value)
        elif name == "metadata":
            values[name] = _metadata(value)
        else:
            values[name] = _text(name, value)
    if is_blank(values["output"]):
        raise Problem("output is missing or empty.")
    return values


def _text(name: str, value: Any) -> str:
    if value is None or value == "":
        return ""
    if name in ("id", "group") and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Problem(f"{name} must be text.")
    try:
        check_text(value)
    except Problem as problem:
        raise Problem(f"{name}: {problem.detail}") from None
    if len(value) > _LIMITS.get(name, len(value)):
        raise Problem(f"{name} may have at most {_LIMITS[name]} characters.")
    return value


def _tags(value: Any) -> list[str]:
    if value in (None, ""):
        return []
    if isinstance(value, str):
        value = [tag.strip() for tag in value.split(",") if tag.strip()]
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise Problem("tags must be a list of words.")
    if len(value) > 50 or any(len(tag) > 100 for tag in value):
        raise Problem("At most 50 tags of 100 characters.")
    return list(check_value(value))


def _metadata(value: Any) -> dict[str, Any]:
    if value in (None, ""):
        return {}
    if isinstance(value, str):
        try:
            value = parse_json(value.encode("utf-8", "surrogatepass"))
        except Problem as problem:
            raise Problem(f"metadata: {problem.detail}") from None
    if not isinstance(value, dict):
        raise Problem("metadata must be a JSON object.")
    if len(json.dumps(value)) > 64 * 1024:
        raise Problem("metadata may have at most 64 kB.")
    return dict(check_value(value))


_INCOMING = """
CREATE TEMP TABLE incoming (
    row int, example_id uuid, content_hash bytea, prompt text, output text, context text,
    model text, language text, tags jsonb, metadata jsonb, external_id text, side text,
    group_hash bytea, group_u float8, u float8, reason text
) ON COMMIT DROP
"""
_COPY = """
COPY incoming (row, example_id, content_hash, prompt, output, context, model, language, tags,
    metadata, external_id, side, group_hash, group_u, u) FROM STDIN
"""
# LATERAL with LIMIT 1 asks the index for each row; as a join, PostgreSQL would read the whole table
# for each batch. (SELECT policy) hides which policy it is: of one that is new, the statistics say
# that it has no rows, and any index would seem as good as the right one.
# The same external id may not name two texts, neither in what is there already nor here.
_REJECT = """
WITH clashing AS (
    SELECT incoming.row FROM incoming
    CROSS JOIN LATERAL (
        SELECT example.content_hash FROM corpus_policyexample
        JOIN corpus_example example ON example.id = example_id
        WHERE policy_id = (SELECT %(policy)s) AND external_id = incoming.external_id
            AND external_id <> '' LIMIT 1
    ) there
    WHERE there.content_hash <> incoming.content_hash
    UNION
    SELECT row FROM (
        SELECT row, content_hash, first_value(content_hash) OVER (
            PARTITION BY external_id ORDER BY row) AS first_hash
        FROM incoming WHERE external_id <> ''
    ) numbered WHERE content_hash <> first_hash
)
UPDATE incoming SET reason = 'This id already names another text.'
FROM clashing WHERE clashing.row = incoming.row
"""
_EXAMPLES = """
INSERT INTO corpus_example (id, workspace_id, content_hash, prompt, output, context, model,
    language, tags, metadata, created_at)
SELECT DISTINCT ON (content_hash) example_id, %(workspace)s, content_hash, prompt, output, context,
    model, language, tags, metadata, now()
FROM incoming WHERE reason IS NULL ORDER BY content_hash, row
ON CONFLICT (workspace_id, content_hash) DO NOTHING
"""
# whoever comes into an existing group joins its side, whatever the fraction is today
_SIDES = """
UPDATE incoming SET side = there.side
FROM incoming newcomer CROSS JOIN LATERAL (
    SELECT side FROM corpus_policyexample
    WHERE policy_id = (SELECT %(policy)s) AND group_hash = newcomer.group_hash LIMIT 1
) there
WHERE incoming.row = newcomer.row AND there.side <> newcomer.side
"""
_POLICY_EXAMPLES = """
WITH first AS (
    SELECT DISTINCT ON (content_hash) row, content_hash, external_id, side, group_hash, group_u, u
    FROM incoming WHERE reason IS NULL ORDER BY content_hash, (external_id = ''), row
), counted AS (
    SELECT content_hash, count(*) AS occurrences FROM incoming WHERE reason IS NULL
    GROUP BY content_hash
), known AS MATERIALIZED (
    SELECT first.*, counted.occurrences, example.id AS example_id, example.model, example.language
    FROM first JOIN counted USING (content_hash) CROSS JOIN LATERAL (
        SELECT id, model, language FROM corpus_example
        WHERE workspace_id = %(workspace)s AND content_hash = first.content_hash LIMIT 1
    ) example
    ORDER BY first.row
), placed AS (
    INSERT INTO corpus_policyexample AS there (policy_id, example_id, source_id, import_job_id,
        external_id, side, group_hash, group_u, u, batch, occurrences)
    SELECT %(policy)s, example_id, %(source)s, %(import)s, external_id, side, group_hash, group_u,
        u, %(batch)s, occurrences
    FROM known
    ON CONFLICT (example_id, policy_id)
        DO UPDATE SET occurrences = there.occurrences + excluded.occurrences
    RETURNING id, example_id, side, (xmax = 0) AS is_new
)
SELECT placed.id, placed.side, known.row, known.model, known.language
FROM placed JOIN known USING (example_id) WHERE placed.is_new ORDER BY placed.id
"""


def _send(batch: _Batch) -> None:
    """Bring a batch's rows to PostgreSQL, as the table `incoming` of this transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_INCOMING)
        with cursor.copy(_COPY) as copy:  # type: ignore[attr-defined]
            for start in range(0, len(batch.lines), 500):
                copy.write("".join([f"{line}\n" for line in batch.lines[start : start + 500]]))
    batch.lines.clear()


def _commit(job: Import, batch: _Batch) -> None:
    """Keep the batch that was sent: examples, the policy's share, counts and the watermark."""
    counter, _ = CorpusCounter.objects.select_for_update().get_or_create(policy=job.policy)
    values = {
        "policy": job.policy_id,
        "workspace": job.workspace_id,
        "source": job.source_id,
        "import": job.pk,
        "batch": counter.batches + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE incoming (row, content_hash, external_id, group_hash, reason)")
        cursor.execute(_REJECT, values)
        cursor.execute("SELECT row, reason FROM incoming WHERE reason IS NOT NULL")
        rejected = sorted(batch.rejected + cursor.fetchall())
        cursor.execute(_EXAMPLES, values)
        # the same examples come at once into two policies: theirs must be visible to the join
        cursor.execute(_SIDES, values)
        cursor.execute(_POLICY_EXAMPLES, values)
        arrived = [
            (pk, side, batch.outputs[row], model, language)
            for pk, side, row, model, language in cursor.fetchall()
        ]
        cursor.execute("DROP TABLE incoming")
        cursor.executemany(
            "INSERT INTO corpus_rejectedrow (import_job_id, row, reason) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [(job.pk, row, reason[:300]) for row, reason in rejected],
        )
    if arrived:
        welcome(job.policy, job.source, counter, arrived)
    read = len(batch.outputs) + len(batch.rejected)
    job.rows += read
    job.new += len(arrived)
    job.duplicates += read - len(rejected) - len(arrived)
    job.rejected += len(rejected)
    job.next_row = batch.next_row
    written = Import.objects.filter(pk=job.pk, fence=job.fence, status=Status.RUNNING).update(
        rows=job.rows,
        new=job.new,
        duplicates=job.duplicates,
        rejected=job.rejected,
        next_row=batch.next_row,
    )
    if not written:
        raise jobs.LostLease


def _hold(policy: Policy) -> None:
    """Keep the policy and its workspace until the end of the transaction.

    PostgreSQL does not ask after them for each row (see PolicyExample).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM policies_policy policy JOIN accounts_workspace workspace"
            " ON workspace.id = policy.workspace_id WHERE policy.id = %s FOR KEY SHARE",
            [policy.pk],
        )
        if not cursor.rowcount:
            raise NotFound


def welcome(
    policy: Policy,
    source: Source | None,
    counter: CorpusCounter,
    arrived: list[tuple[Any, ...]],
) -> None:
    """Number the batch, count it, and tell the apps that keep more about these examples.

    In the transaction that brought them, with the policy's counter locked.

    Args:
        arrived: (id of the policy's example, side, output, model, language) each.
    """
    _hold(policy)
    counter.batches += 1
    sides = [row[1] for row in arrived]
    counter.train += sides.count(Side.TRAIN)
    counter.audit += sides.count(Side.AUDIT)
    counter.save()
    facets: dict[tuple[str, str], int] = {("source", source.name if source else ""): 0}
    for _, _, _, model, language in arrived:
        for facet in (("model", model), ("language", language)):
            if facet[1]:
                facets[facet] = facets.get(facet, 0) + 1
    facets[("source", source.name if source else "")] = len(arrived)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO corpus_batch (policy_id, number, committed_at) VALUES (%s, %s, now())",
            [policy.pk, counter.batches],
        )
        cursor.executemany(
            "INSERT INTO corpus_facet (policy_id, name, value, count) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (policy_id, name, value)"
            " DO UPDATE SET count = corpus_facet.count + excluded.count",
            [(policy.pk, name, value, n) for (name, value), n in sorted(facets.items())],
        )
    arrival = Arrival(
        policy=policy,
        number=counter.batches,
        ids=[row[0] for row in arrived],
        sides=sides,
        texts=[row[2] for row in arrived],
    )
    for listener in on_arrival:
        listener(arrival)
