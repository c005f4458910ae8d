"""Turning the editor's form into a draft, and back."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django import forms
from django.http import QueryDict

from apps.accounts.forms import WholeText
from apps.policies.models import Policy
from apps.policies.services import ADMIN_SETTINGS
from apps.policies.specification import ACTIONS, MAXIMUM_EXAMPLES, MAXIMUM_RULES, POLARITIES, STAGES

_NUMBERED = re.compile(r"rules-(\d{1,4})-")
_EXAMPLE = re.compile(r"rules-(\d{1,4})-examples-(\d{1,4})-text\Z")

CHOICES = {
    "stages": STAGES,
    "polarities": POLARITIES,
    "actions": ACTIONS[1:],  # what is allowed is so by its polarity
    "severities": (1, 2, 3, 4),
}


class NewPolicyForm(forms.Form):
    name = WholeText(max_length=200)
    slug = forms.SlugField(
        max_length=60,
        label="Short name for addresses and the API",
        help_text="Lower-case letters, digits and hyphens; it never changes.",
        error_messages={"invalid": "Lower-case letters, digits and hyphens only."},
    )


class PercentField(forms.FloatField):
    """A share in [0, 1], which people read and write in percent."""

    def prepare_value(self, value: Any) -> Any:
        return f"{value * 100:.10g}" if isinstance(value, float) else value

    def to_python(self, value: Any) -> Any:
        percent = super().to_python(value)
        return None if percent is None else round(percent / 100, 12)


class SettingsForm(forms.ModelForm):
    """Name, targets, queue and serving settings of a policy."""

    COLUMNS: ClassVar = [
        {
            "Serving": [
                "mode",
                "rollout",
                "on_failure",
                "level",
                "safe_completion",
                "second_approver",
            ]
        },
        {
            "Targets": ["target_false_positive_rate", "target_recall", "target_cost_ratio"],
            "Labels and retrains": [
                "audit_fraction",
                "audit_share",
                "retrain_after",
                "retrain_every_hours",
            ],
            "Name": ["name"],
        },
    ]

    name = WholeText(max_length=200, label="What people call it")

    class Meta:
        model = Policy
        fields = [
            "name",
            "target_false_positive_rate",
            "target_recall",
            "target_cost_ratio",
            "retrain_after",
            "retrain_every_hours",
            "audit_fraction",
            "audit_share",
            "mode",
            "rollout",
            "on_failure",
            "safe_completion",
            "level",
            "second_approver",
        ]
        field_classes: ClassVar = {
            "target_false_positive_rate": PercentField,
            "audit_fraction": PercentField,
            "audit_share": PercentField,
        }
        error_messages: ClassVar = {
            "target_false_positive_rate": {
                "min_value": "At least 0.01 percent.",
                "max_value": "At most 90 percent.",
            },
            "target_recall": {"max_value": "At most %(limit_value)s: a share, not a percentage."},
            "audit_fraction": {
                "min_value": "At least 5 percent.",
                "max_value": "At most 95 percent.",
            },
            "audit_share": {
                "min_value": "At least 0 percent.",
                "max_value": "At most 100 percent.",
            },
        }
        labels = {
            "target_false_positive_rate": "Percent of good traffic that may be stopped",
            "target_recall": "Recall wanted",
            "target_cost_ratio": "A miss costs as much as so many false alarms",
            "retrain_after": "Retrain after so many new train labels",
            "retrain_every_hours": "Retrain every so many hours",
            "audit_fraction": "Percent of new texts kept for audit",
            "audit_share": "Percent of draws that are audit draws",
            "mode": "What the check API does with it",
            "rollout": "Percent of traffic it acts on",
            "on_failure": "When its guardrail fails",
            "safe_completion": "What is said instead of a rewritten output",
            "level": "Level",
            "second_approver": "A second person publishes",
        }
        help_texts = {
            "target_false_positive_rate": "The first target that is set counts.",
            "target_recall": "A share, as the pages show it: 0.8.",
            "audit_fraction": "Fixed per text when it arrives; a change is for later texts.",
            "audit_share": "More audit labels: narrower intervals. Fewer: faster learning.",
            "mode": "Shadow decides and is recorded, but never acts.",
            "rollout": "Enforced for this share, by a stable hash; the rest stays in shadow.",
            "on_failure": "Closed advises to block, open to let through.",
            "level": "A higher level's allowed rules lift lower blocks; nothing lifts its own. "
            "Admins set it.",
            "second_approver": "Whoever wrote some of a draft, of the rules or of the guardrail, "
            "does not publish it: another owner does, or an admin. Settings, exceptions, "
            "thresholds and new policies need nobody else. Admins set it.",
        }

    def __init__(self, *args: Any, may_set_authority: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True
        for name in ("retrain_after", "retrain_every_hours"):
            self.fields[name].widget.attrs["min"] = 1
        for name in ADMIN_SETTINGS:
            self.fields[name].disabled = not may_set_authority

    def columns(self) -> list[list[tuple[str, list[forms.BoundField]]]]:
        """Its fields as the page shows them: cards beside each other, with headings."""
        return [
            [(title, [self[name] for name in names]) for title, names in column.items()]
            for column in self.COLUMNS
        ]

    def split(self) -> dict[str, Any]:
        """What services.change_settings takes: name, targets and settings, as far as they changed.

        A page that was opened long ago must not undo what somebody else has set since.
        """
        data = {name: self.cleaned_data[name] for name in self.changed_data}
        name = data.pop("name", None)
        targets = {n.removeprefix("target_"): v for n, v in data.items() if n.startswith("target_")}
        settings = {n: v for n, v in data.items() if not n.startswith("target_")}
        return {"name": name, "targets": targets, "settings": settings}


def draft_from(post: QueryDict) -> dict[str, Any]:
    """The draft that the editor's form describes; empty new rules and examples are left out."""
    numbers = sorted({int(m.group(1)) for name in post if (m := _NUMBERED.match(name))})
    order = [int(text) for text in post.getlist("order") if text.isdecimal() and len(text) < 6]
    numbers.sort(key=lambda n: order.index(n) if n in order else n + len(order))
    rules = [_rule(post, number) for number in numbers[: MAXIMUM_RULES + 1]]
    return {
        "stages": post.getlist("stages"),
        "definition": _text(post, "definition"),
        "scope": _text(post, "scope"),
        "rationale": _text(post, "rationale"),
        "rules": [rule for rule in rules if rule["text"].strip() or rule["examples"]],
    }


def _rule(post: QueryDict, number: int) -> dict[str, Any]:
    prefix = f"rules-{number}-"
    positions = sorted(
        int(m.group(2))
        for name in post
        if (m := _EXAMPLE.match(name)) and int(m.group(1)) == number
    )
    examples = [
        {
            "text": _text(post, f"{prefix}examples-{position}-text"),
            "violates": post.get(f"{prefix}examples-{position}-violates") == "true",
            "why": _text(post, f"{prefix}examples-{position}-why"),
        }
        for position in positions[: MAXIMUM_EXAMPLES + 1]
    ]
    text = _text(post, f"{prefix}text")
    severity = post.get(f"{prefix}severity", "")
    polarity = post.get(f"{prefix}polarity", "disallowed")
    return {
        "key": post.get(f"{prefix}key", "").strip() or key_for(text, number),
        "polarity": polarity,
        "text": text,
        "severity": int(severity) if severity.isdecimal() and len(severity) < 4 else 0,
        "action": "allow" if polarity == "allowed" else post.get(f"{prefix}action", ""),
        "examples": [row for row in examples if f"{row['text']}{row['why']}".strip()],
    }


def key_for(text: str, number: int) -> str:
    """A rule's first key, from its first words."""
    words = re.findall(r"[a-z0-9]+", text.lower())[:5]
    return "-".join(words)[:60].strip("-") or f"rule-{number + 1}"


def _text(post: QueryDict, name: str) -> str:
    return post.get(name, "").replace("\r\n", "\n")
