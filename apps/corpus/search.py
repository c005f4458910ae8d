"""The data list of a policy: full text, facets, keyset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.postgres.search import SearchQuery
from django.db.models import QuerySet

from apps.accounts.actor import Actor
from apps.corpus.models import Facet, PolicyExample
from apps.policies.models import Policy

FACETS_SHOWN = 20


@dataclass(frozen=True)
class Filters:
    """What a list of examples is narrowed to; "" means everything.

    Args:
        text: words that all occur, in web search syntax ("a phrase", -not, or).
        label: violates, complies, unsure or none.
        split: train or audit.
    """

    text: str = ""
    label: str = ""
    split: str = ""
    source: str = ""
    model: str = ""
    language: str = ""
    external_id: str = ""


def examples(policy: Policy, filters: Filters) -> QuerySet[PolicyExample]:
    """A policy's examples that match, with their texts and current labels."""
    rows = PolicyExample.objects.filter(policy=policy).select_related("example", "source")
    if filters.text:
        query = SearchQuery(filters.text, config="simple", search_type="websearch")
        rows = rows.filter(example__search=query)
    conditions: dict[str, Any] = {}
    if filters.split:
        conditions["side"] = filters.split
    if filters.source:
        conditions["source__name"] = filters.source
    if filters.model:
        conditions["example__model"] = filters.model
    if filters.language:
        conditions["example__language"] = filters.language
    if filters.external_id:
        conditions["external_id"] = filters.external_id
    if filters.label == "none":
        rows = rows.exclude(slots__state="answered")
    elif filters.label:
        conditions |= {"slots__label__verdict": filters.label, "slots__state": "answered"}
    return rows.filter(**conditions)


def told_elsewhere(actor: Actor, rows: Sequence[PolicyExample]) -> set[UUID]:
    """The examples whose model, tags and metadata came with a policy that the actor cannot see.

    A text is kept once a workspace, with what the first import said of it.
    """
    first = dict(
        PolicyExample.objects.filter(example__in=[row.example_id for row in rows])
        .order_by("example_id", "id")
        .distinct("example_id")
        .values_list("example_id", "policy_id")
    )
    visible = Policy.objects.visible_to(actor).filter(pk__in=first.values())
    seen = set(visible.values_list("pk", flat=True))
    return {example for example, policy in first.items() if policy not in seen}


def facets(policy: Policy) -> dict[str, list[tuple[str, int]]]:
    """The most frequent sources, models and languages of a policy, counted as they arrived."""
    found: dict[str, list[tuple[str, int]]] = {"source": [], "model": [], "language": []}
    for facet in Facet.objects.filter(policy=policy).order_by("name", "-count", "value"):
        if len(found[facet.name]) < FACETS_SHOWN:
            found[facet.name].append((facet.value, facet.count))
    return found
