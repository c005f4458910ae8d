"""The Data tab, the page of one example, and imports from upload to result."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render

from apps.accounts.actor import Actor
from apps.accounts.pages import page, viewer
from apps.base.jobs import Status
from apps.base.keyset import paginate
from apps.base.problems import Problem
from apps.corpus import importing
from apps.corpus.forms import SourceForm
from apps.corpus.models import CorpusCounter, Import, PolicyExample
from apps.corpus.permissions import load_import, load_policy_example
from apps.corpus.reading import BadRow
from apps.corpus.search import Filters, examples, facets, told_elsewhere
from apps.policies.models import Policy
from apps.policies.permissions import load_policy

PAGE_SIZE = 25
_FILTERS = ("text", "label", "split", "source", "model", "language")


@page("examples.search", load=load_policy)
def data(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """A policy's examples: full text, facets, keyset."""
    chosen = {name: request.GET.get(name, "")[:500] for name in _FILTERS}
    found = paginate(
        examples(policy, Filters(**chosen)),
        cursor=request.GET.get("cursor", ""),
        size=PAGE_SIZE,
        order=("id",),
    )
    query = {name: value for name, value in chosen.items() if value}
    context = {
        "policy": policy,
        "tab": "data",
        "page": found,
        "chosen": chosen,
        "facets": _facet_links(policy, query),
        "query": urlencode(query),
        "counter": CorpusCounter.objects.filter(policy=policy).first(),
        "imports": Import.objects.filter(policy=policy)
        .exclude(status=Status.DRAFT)
        .select_related("source")
        .order_by("-id")[:5],
    }
    return render(request, "corpus/data.html", context)


@page("examples.view", load=load_policy_example)
def example(request: HttpRequest, found: PolicyExample) -> HttpResponseBase:
    """Everything known about one example in one policy."""
    context = {
        "policy": found.policy,
        "tab": "data",
        "found": found,
        "example": found.example,
        "facts": not told_elsewhere(viewer(request), [found]),
        "whole": "whole" in request.GET,
    }
    return render(request, "corpus/example.html", context)


@page("imports.create", load=load_policy, methods=("GET", "POST"))
def upload(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Choose a file; its columns are mapped on the next page."""
    problem = None
    if request.method == "POST":
        file = request.FILES.get("file")
        try:
            if file is None:
                raise Problem("Choose a file first.")
            job = importing.upload(
                viewer(request), policy=policy, file_name=file.name or "", chunks=file.chunks()
            )
            importing.preview(job)
        except Problem as found:
            problem = found
        else:
            return redirect("corpus:map", job.pk)
    context = {"policy": policy, "tab": "data", "problem": problem}
    return render(request, "corpus/upload.html", context, status=problem.status if problem else 200)


@page("imports.change", load=load_import, methods=("GET", "POST"))
def map_columns(request: HttpRequest, job: Import) -> HttpResponseBase:
    """Map the file's columns on a preview of its first rows, and say where it comes from."""
    if job.status != Status.DRAFT:
        return redirect("corpus:import", job.pk)
    names, first = importing.preview(job)
    form = SourceForm(request.POST or None, initial={"source": job.file_name[:200]})
    mapping = importing.guess_mapping(names)
    problem = None
    if request.method == "POST":
        mapping = {name: request.POST.get(f"map-{name}", "") for name in importing.FIELDS}
        if form.is_valid():
            try:
                _start(viewer(request), job, mapping, form.cleaned_data)
            except Problem as found:
                problem = found
            else:
                return redirect("corpus:import", job.pk)
    context = {
        "policy": job.policy,
        "tab": "data",
        "job": job,
        "form": form,
        "names": names,
        "mapping": [(name, mapping.get(name, "")) for name in importing.FIELDS],
        "rows": [_cells(row, names) for row in first],
        "problem": problem,
    }
    status = 400 if problem or form.errors else 200
    return render(request, "corpus/map.html", context, status=status)


@page("imports.view", load=load_import)
def import_detail(request: HttpRequest, job: Import) -> HttpResponseBase:
    """Progress while it runs, counts and rejected rows when it is over."""
    template = "corpus/progress.html" if request.headers.get("HX-Request") else "corpus/import.html"
    context = {
        "policy": job.policy,
        "tab": "data",
        "job": job,
        "rejected": job.rejected_rows.order_by("row")[:20],
    }
    return render(request, template, context)


@page("imports.view", load=load_import)
def rejected_rows(request: HttpRequest, job: Import) -> HttpResponseBase:
    """The rejected rows as CSV: row number and reason."""
    response = StreamingHttpResponse(_rejected_csv(job), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="rejected-{job.pk}.csv"'
    return response


@page("imports.change", load=load_import, methods=("POST",))
def cancel(request: HttpRequest, job: Import) -> HttpResponseBase:
    importing.request_cancel(viewer(request), job=job)
    messages.success(request, "The import stops at its next batch; what it brought stays.")
    return redirect("corpus:import", job.pk)


def _start(actor: Actor, job: Import, mapping: dict[str, str], source: dict[str, Any]) -> None:
    found = importing.get_source(
        actor,
        name=source["source"],
        licence=source["licence"],
        may_train=source["consent"] == "train",
    )
    importing.start_import(actor, job=job, mapping=mapping, source=found)


def _cells(row: Any, names: list[str]) -> list[str]:
    if isinstance(row, BadRow):
        return [f"rejected: {row.reason}"]
    return [str(row.get(name, ""))[:300] for name in names]


def _facet_links(policy: Policy, query: dict[str, str]) -> list[dict[str, Any]]:
    """For each facet its values, with the query that chooses (or drops) each."""
    groups: list[tuple[str, Sequence[tuple[str, int | None]]]] = [
        ("label", [(value, None) for value in ("violates", "complies", "unsure", "none")]),
        ("split", [("train", None), ("audit", None)]),
        *[(name, values) for name, values in facets(policy).items() if values],
    ]
    shown = []
    for name, values in groups:
        links = []
        for value, count in values:
            on = query.get(name) == value
            other = {k: v for k, v in query.items() if k != name}
            link = urlencode(other if on else {**other, name: value})
            links.append({"value": value, "count": count, "on": on, "query": link})
        shown.append({"name": name, "links": links})
    return shown


def _rejected_csv(job: Import) -> Iterator[str]:
    def line(*cells: object) -> str:
        buffer = io.StringIO()
        csv.writer(buffer).writerow(cells)
        return buffer.getvalue()

    yield line("row", "reason")
    for row in job.rejected_rows.order_by("row").iterator(chunk_size=2000):
        yield line(row.row, row.reason)
