"""Lists of harm categories, and what a category of one means in another.

Four are built in as data; a workspace adds its own and corrects the mappings. A policy says which
categories it stands for; a caller that speaks another taxonomy gets its own names back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.accounts.models import Workspace
from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.policies.models import CategoryMapping, Taxonomy

MAXIMUM_CATEGORIES = 200
MAXIMUM_TAXONOMIES = 50
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}\Z")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,59}\Z")


@dataclass(frozen=True)
class Category:
    code: str
    name: str
    about: str = ""


@dataclass(frozen=True)
class Categories:
    """A taxonomy, built in or a workspace's own."""

    slug: str
    name: str
    categories: tuple[Category, ...]
    built_in: bool = True


def _listed(slug: str, name: str, *codes: str) -> Categories:
    pairs = (code.partition("=") for code in codes)
    return Categories(slug, name, tuple(Category(c, n or c) for c, _, n in pairs))


BUILT_IN = {
    taxonomy.slug: taxonomy
    for taxonomy in (
        _listed(
            "openai",
            "OpenAI moderation",
            "harassment",
            "harassment/threatening",
            "hate",
            "hate/threatening",
            "illicit",
            "illicit/violent",
            "self-harm",
            "self-harm/intent",
            "self-harm/instructions",
            "sexual",
            "sexual/minors",
            "violence",
            "violence/graphic",
        ),
        _listed(
            "llama_guard",
            "Llama Guard 3 and 4",
            "S1=Violent crimes",
            "S2=Non-violent crimes",
            "S3=Sex crimes",
            "S4=Child exploitation",
            "S5=Defamation",
            "S6=Specialized advice",
            "S7=Privacy",
            "S8=Intellectual property",
            "S9=Indiscriminate weapons",
            "S10=Hate",
            "S11=Self-harm",
            "S12=Sexual content",
            "S13=Elections",
            "S14=Code interpreter abuse",
        ),
        _listed(
            "shieldgemma",
            "ShieldGemma",
            "dangerous=Dangerous content",
            "harassment=Harassment",
            "hate=Hate speech",
            "sexual=Sexually explicit information",
        ),
        _listed(
            "aegis1",
            "AEGIS 1",
            "hate=Hate and identity hate",
            "sexual=Sexual",
            "violence=Violence",
            "self-harm=Suicide and self-harm",
            "threat=Threat",
            "sexual-minor=Sexual, minor",
            "weapons=Guns and illegal weapons",
            "substances=Controlled and regulated substances",
            "criminal-planning=Criminal planning and confessions",
            "privacy=PII and privacy",
            "harassment=Harassment",
            "profanity=Profanity",
            "other=Other",
            "needs-caution=Needs caution",
        ),
        _listed(
            "aegis2",
            "AEGIS 2",
            "S1=Violence",
            "S2=Sexual",
            "S3=Criminal planning and confessions",
            "S4=Guns and illegal weapons",
            "S5=Controlled and regulated substances",
            "S6=Suicide and self-harm",
            "S7=Sexual, minor",
            "S8=Hate and identity hate",
            "S9=PII and privacy",
            "S10=Harassment",
            "S11=Threat",
            "S12=Profanity",
            "S13=Needs caution",
            "S14=Other",
            "S15=Manipulation",
            "S16=Fraud and deception",
            "S17=Malware",
            "S18=High-risk government decisions",
            "S19=Political misinformation and conspiracy",
            "S20=Copyright, trademark, plagiarism",
            "S21=Unauthorized advice",
            "S22=Illegal activity",
            "S23=Immoral and unethical",
        ),
    )
}

# to OpenAI's names; the way between two others leads through them
_TO_OPENAI: dict[str, tuple[str, ...]] = {
    "llama_guard/S1": ("violence", "illicit/violent"),
    "llama_guard/S2": ("illicit",),
    "llama_guard/S3": ("sexual", "illicit/violent"),
    "llama_guard/S4": ("sexual/minors",),
    "llama_guard/S9": ("illicit/violent",),
    "llama_guard/S10": ("hate",),
    "llama_guard/S11": ("self-harm",),
    "llama_guard/S12": ("sexual",),
    "shieldgemma/dangerous": ("illicit", "illicit/violent", "self-harm/instructions"),
    "shieldgemma/harassment": ("harassment",),
    "shieldgemma/hate": ("hate",),
    "shieldgemma/sexual": ("sexual",),
    "aegis1/hate": ("hate",),
    "aegis1/sexual": ("sexual",),
    "aegis1/violence": ("violence",),
    "aegis1/self-harm": ("self-harm",),
    "aegis1/threat": ("harassment/threatening",),
    "aegis1/sexual-minor": ("sexual/minors",),
    "aegis1/weapons": ("illicit/violent",),
    "aegis1/substances": ("illicit",),
    "aegis1/criminal-planning": ("illicit",),
    "aegis1/harassment": ("harassment",),
    "aegis2/S1": ("violence",),
    "aegis2/S2": ("sexual",),
    "aegis2/S3": ("illicit",),
    "aegis2/S4": ("illicit/violent",),
    "aegis2/S5": ("illicit",),
    "aegis2/S6": ("self-harm",),
    "aegis2/S7": ("sexual/minors",),
    "aegis2/S8": ("hate",),
    "aegis2/S10": ("harassment",),
    "aegis2/S11": ("harassment/threatening",),
    "aegis2/S16": ("illicit",),
    "aegis2/S17": ("illicit",),
    "aegis2/S22": ("illicit",),
}
_FORWARD = {
    source: tuple(f"openai/{code}" for code in codes) for source, codes in _TO_OPENAI.items()
}


def taxonomies_of(workspace: Workspace) -> dict[str, Categories]:
    """The built-in taxonomies and the workspace's own, by slug."""
    own = Taxonomy.objects.filter(workspace=workspace).order_by("slug")
    return BUILT_IN | {
        row.slug: Categories(
            row.slug, row.name, tuple(Category(**c) for c in row.categories), built_in=False
        )
        for row in own
    }


def mappings_of(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """What each category means elsewhere: the built-in word, or the workspace's in its place."""
    own = CategoryMapping.objects.filter(workspace=workspace)
    return _FORWARD | {row.source: tuple(row.targets) for row in own}


def translate(
    categories: Iterable[str], taxonomy: str, mappings: Mapping[str, Sequence[str]]
) -> frozenset[str]:
    """The codes of a taxonomy that these categories mean; what has no counterpart is left out."""
    return frozenset().union(
        *(_meant(category, f"{taxonomy}/", mappings) for category in categories)
    )


def _meant(category: str, prefix: str, mappings: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """What one category means in a taxonomy: as near as there is something."""
    reached = {category}
    for _ in range(2):  # there, and through OpenAI's names to a third
        reached |= {t for source in reached for t in mappings.get(source, ())}
        reached |= {source for source, targets in mappings.items() if reached & set(targets)}
        if any(name.startswith(prefix) for name in reached):
            break
    return frozenset(name.removeprefix(prefix) for name in reached if name.startswith(prefix))


@transaction.atomic
def add_taxonomy(
    actor: Actor, *, slug: str, name: str, categories: Sequence[Mapping[str, Any]]
) -> Taxonomy:
    """A taxonomy of the workspace's own."""
    errors = []
    if not _SLUG.match(slug):
        errors.append(
            FieldError("/slug", "1 to 60 lower-case letters, digits, hyphens and underscores.")
        )
    if not name.strip() or len(name) > 200:
        errors.append(FieldError("/name", "Give it a name of at most 200 characters."))
    if not 1 <= len(categories) <= MAXIMUM_CATEGORIES:
        errors.append(FieldError("/categories", f"1 to {MAXIMUM_CATEGORIES} categories."))
    seen: set[str] = set()
    rows = []
    for place, row in enumerate(categories[:MAXIMUM_CATEGORIES]):
        code, title = str(row.get("code", "")), str(row.get("name", ""))
        about = str(row.get("about", ""))
        if not _CODE.match(code):
            errors.append(FieldError(f"/categories/{place}/code", "1 to 60 letters and digits."))
        if code in seen:
            errors.append(FieldError(f"/categories/{place}/code", "Another one has this code."))
        if len(title) > 200 or len(about) > 2000:
            errors.append(FieldError(f"/categories/{place}/name", "That is too long."))
        seen.add(code)
        rows.append({"code": code, "name": check_text(title) or code, "about": check_text(about)})
    if errors:
        raise Problem("The taxonomy was not added.", errors=errors)
    taken = Problem(
        "Another taxonomy has this slug; choose another.",
        code="slug_taken",
        status=409,
        errors=[FieldError("/slug", "Another taxonomy has it; choose another.")],
    )
    if slug in BUILT_IN:
        raise taken
    if Taxonomy.objects.filter(workspace=actor.workspace).count() >= MAXIMUM_TAXONOMIES:
        raise Problem(f"At most {MAXIMUM_TAXONOMIES} taxonomies.", code="too_many", status=409)
    try:
        with transaction.atomic():
            made = Taxonomy.objects.create(
                workspace=actor.workspace, slug=slug, name=check_text(name), categories=rows
            )
    except IntegrityError:
        raise taken from None
    record(actor, "taxonomy.add", made, slug=slug, categories=len(rows))
    return made


@transaction.atomic
def map_category(actor: Actor, *, source: str, targets: Sequence[str]) -> None:
    """Say what a category means in other taxonomies, in place of what is built in."""
    known = known_categories(actor.workspace)
    errors = [FieldError("/source", "No such category.")] if source not in known else []
    errors += [
        FieldError(f"/targets/{place}", "No such category.")
        for place, target in enumerate(targets)
        if target not in known
    ]
    if errors:
        raise Problem("The mapping was not changed.", errors=errors)
    CategoryMapping.objects.update_or_create(
        workspace=actor.workspace, source=source, defaults={"targets": sorted(set(targets))}
    )
    record(actor, "taxonomy.map", actor.workspace, source=source, targets=sorted(set(targets)))


def known_categories(workspace: Workspace) -> set[str]:
    """Every category as policies name it: "openai/hate"."""
    return {
        f"{taxonomy.slug}/{category.code}"
        for taxonomy in taxonomies_of(workspace).values()
        for category in taxonomy.categories
    }
