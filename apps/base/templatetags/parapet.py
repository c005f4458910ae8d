"""Template tags every app uses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join

from apps.base.samples import SHOWN, marked, pieces

register = template.Library()


@register.inclusion_tag("includes/sample.html")
def sample(text: str, *, whole: bool = False, more_url: str = "") -> dict[str, Any]:
    """A text somebody else wrote, in its box: escaped, bounded, hidden characters visible."""
    shown = text if whole else text[:SHOWN]
    return {"pieces": pieces(shown), "more": len(text) - len(shown), "more_url": more_url}


@register.inclusion_tag("includes/sample.html")
def marked_sample(text: str, spans: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The same, with what was found in it marked."""
    shown = text[:SHOWN]
    inside = [(start, min(end, SHOWN)) for start, end in spans if start < SHOWN]
    return {"pieces": marked(shown, inside), "more": len(text) - len(shown), "more_url": ""}


@register.inclusion_tag("includes/verdict.html")
def verdict(value: str) -> dict[str, Any]:
    """A verdict by shape, colour and word."""
    return {"value": value}


@register.simple_tag
def ago(value: datetime | None) -> str:
    """A moment, relative once its script has run, with the absolute time in its tooltip."""
    if value is None:
        return "–"
    told = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return format_html(
        '<time datetime="{}" title="{} UTC" data-relative>{}</time>',
        value.isoformat(timespec="seconds"),
        told,
        told[:-3],
    )


@register.filter
def percent(value: float | None) -> str:
    """0.052 as "5.2 %"."""
    return "–" if value is None else f"{value * 100:.1f} %"


@register.filter
def share(value: float | None) -> str:
    """0.8612 as "0.86"."""
    return "–" if value is None else f"{value:.2f}"


@register.filter
def decimals(value: float | None) -> str:
    """0.8612 as "0.861", nothing as a dash."""
    return "–" if value is None else f"{value:.3f}"


@register.filter
def as_json(value: Any) -> str:
    """A value as readable JSON; the template escapes it."""
    return json.dumps(value, ensure_ascii=False, indent=2)


@register.filter
def get(mapping: dict[str, Any], key: str) -> Any:
    """mapping[key], or None."""
    return mapping.get(key)


@register.filter
def pairs(mapping: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and values of a mapping others wrote; `mapping.items` would find a key "items"."""
    return list(mapping.items())


@register.simple_tag
def interval(figure: dict[str, Any], *, as_percent: bool = False) -> str:
    """[0.79, 0.92], or what is missing."""
    if figure["value"] is None:
        return format_html(
            '<span class="missing">too few to say: {} more audit labels</span>', figure["needed"]
        )
    low, high = figure["low"], figure["high"]
    if as_percent:
        return f"[{low * 100:.1f}, {high * 100:.1f}]"
    return f"[{low:.2f}, {high:.2f}]"


@register.filter
def place(pointer: str) -> str:
    """Where a field stands, for people: "/rules/1/key" as "rule 2, key"."""
    words: list[str] = []
    for part in pointer.split("/"):
        if part in ("", "settings", "?"):
            continue
        if part.isascii() and part.isdecimal() and len(part) < 7:
            several = words.pop() if words else "number"
            words.append(f"{several.removesuffix('s')} {int(part) + 1}")
        else:
            words.append(part.replace("_", " "))
    return ", ".join(words)


@register.simple_tag
def invalid(wrong: list[str] | None, field: str) -> str:
    """The attributes of a field with something wrong in it, which includes/wrong.html tells."""
    if not wrong:
        return ""
    return format_html('aria-invalid="true" aria-describedby="{}-wrong"', field)


@register.simple_tag
def prose(text: str) -> str:
    """Paragraphs of our own words, `code` in them as such."""
    parts = [part.split("`") for part in text.strip().split("\n\n") if part]
    return format_html_join("", "<p>{}</p>", ((_with_code(part),) for part in parts))


def _with_code(words: list[str]) -> str:
    marks = ("{}", "<code>{}</code>")
    each = [format_html(marks[place % 2], word) for place, word in enumerate(words)]
    return format_html_join("", "{}", ((one,) for one in each))


@register.filter
def spaces(text: str) -> str:
    """With its spaces as signs that can be seen."""
    return text.replace(" ", "␣")


@register.filter
def split_words(text: str) -> list[str]:
    """The words of a template's own constant."""
    return text.split()


@register.filter
def both_sides(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first example on each side of a rule's line."""
    sides = {example["violates"]: example for example in reversed(examples)}
    return [sides[side] for side in (True, False) if side in sides]


@register.filter
def clip(text: str, length: int) -> str:
    """The first characters of a text; never looks at the rest, however long it is."""
    text = str(text)
    return text if len(text) <= length else f"{text[:length]}…"
