"""The words that pages have for kinds of checks, and for what became of them."""

from __future__ import annotations

from django import template

from apps.guardrails.checks import KINDS

register = template.Library()

WHY = {
    "exception": "let through by an exception",
    "short_circuited": "not needed",
    "rollout": "outside the rollout",
    "mode_off": "off",
    "deadline": "past the deadline",
    "timeout": "no answer in time",
    "no_verdict": "no verdict",
    "no_model": "no model yet",
    "no_tool_call": "no tool call",
    "bad_status": "the judge answered with an error",
    "gate_undecided": "what failed would decide",
}
"""What the codes of receipts mean; the others say it themselves."""


@register.filter
def why(code: str) -> str:
    """A code of a receipt in words."""
    return WHY.get(code, code.replace("_", " "))


@register.filter
def kind_title(kind: str) -> str:
    """What a kind of check is called on pages."""
    return KINDS[kind].title if kind in KINDS else kind
