"""What a text, a conversation, a tool call and passages look like, by API and on a page."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.accounts.endpoint import as_problem, validated
from apps.base.gate import parse_json
from apps.base.problems import Problem
from apps.guardrails.contents import CONTENTS, MAXIMUM_TURNS, hold_number
from apps.policies.serializers import WholeTextField
from apps.policies.specification import STAGES


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string"},
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                    "required": ["type", "text"],
                },
            },
        ]
    }
)
class PartsField(serializers.Field):
    """A text, or a list of parts of one, as OpenAI has them; joined by line breaks."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str):
            return data
        if not isinstance(data, list):
            raise serializers.ValidationError("This is a text, or a list of {type: text, text}.")
        for place, part in enumerate(data):
            if not _is_text_part(part):
                raise serializers.ValidationError(
                    f"Part {place + 1} is no {{type: text, text}}. Only texts can be judged: leave "
                    "others out, knowing that nobody looked at them."
                )
        return "\n".join(part["text"] for part in data)


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


class IdField(serializers.RegexField):
    """A name that machines give: too plain to hold anything that had to be judged."""

    def __init__(self, **options: Any) -> None:
        message = "1 to 200 letters, digits, dots, colons, hyphens and underscores."
        super().__init__(
            r"\A[A-Za-z0-9_.:-]{1,200}\Z", error_messages={"invalid": message}, **options
        )


class FunctionIn(serializers.Serializer):
    name = WholeTextField(max_length=200)
    arguments = serializers.JSONField(required=False)


class ToolCallIn(serializers.Serializer):
    """A call: {name, arguments}, or OpenAI's {id, type, function: {name, arguments}}."""

    name = WholeTextField(max_length=200, required=False)
    arguments = serializers.JSONField(required=False)
    function = FunctionIn(required=False)
    id = IdField(required=False, allow_null=True)
    type = IdField(required=False)
    index = serializers.IntegerField(required=False)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if ("function" in given) == ("name" in given) or {"function", "arguments"} <= given.keys():
            raise serializers.ValidationError("Give name and arguments, or else a function.")
        call = given.get("function", given)
        return {name: call[name] for name in ("name", "arguments") if name in call}


class MessageIn(serializers.Serializer):
    """A turn as OpenAI has it; what it says, refuses and calls is judged as one text."""

    empty_ignored = True

    role = IdField()
    content = PartsField(required=False, allow_null=True)
    refusal = WholeTextField(required=False, allow_null=True)
    tool_calls = serializers.ListField(
        child=ToolCallIn(), required=False, allow_null=True, max_length=MAXIMUM_TURNS
    )
    function_call = FunctionIn(required=False, allow_null=True)
    tool_call_id = IdField(required=False, allow_null=True)
    name = IdField(required=False, allow_null=True)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        said = [given[name] for name in ("content", "refusal") if given.get(name) is not None]
        calls = [*(given.get("tool_calls") or []), given.get("function_call")]
        calls = [call for call in calls if call]
        if not (said or calls):
            raise serializers.ValidationError({"content": ["This field is required."]})
        turn = {"role": given["role"], "content": "\n".join(filter(None, said))}
        return {**turn, "calls": calls} if calls else turn


class PassageIn(serializers.Serializer):
    text = WholeTextField()
    source = WholeTextField(required=False, max_length=2000, default="")


class PassagesField(serializers.ListField):
    """Passages as texts, or as objects that also say where they come from."""

    def run_child_validation(self, data: Any) -> list[Any]:
        rows = [{"text": row} if isinstance(row, str) else row for row in data]
        return super().run_child_validation(rows)


class ContentIn(serializers.Serializer):
    """What is judged: exactly one of these."""

    text = WholeTextField(required=False)
    messages = MessageIn(many=True, required=False)
    tool_call = ToolCallIn(required=False)
    passages = PassagesField(child=PassageIn(), required=False)

    def hold(self, data: Any) -> None:
        """Refuse more than is judged at once; `validated` asks before anything is read of it."""
        for name in CONTENTS if isinstance(data, dict) else ():
            hold_number(data.get(name))
        if _number_of_calls(data) > MAXIMUM_TURNS:
            raise Problem(f"At most {MAXIMUM_TURNS} calls at once.", code="too_large", status=413)


def _number_of_calls(data: Any) -> int:
    """Of all messages, whatever they look like."""
    turns = data.get("messages") if isinstance(data, dict) else None
    listed = [
        turn.get("tool_calls")
        for turn in (turns if isinstance(turns, list) else ())
        if isinstance(turn, dict)
    ]
    return sum(len(calls) for calls in listed if isinstance(calls, list))


def written(shape: str, text: str) -> dict[str, Any]:
    """What is to be judged, of what was written on a page: a text, or JSON as the API takes it."""
    if shape not in CONTENTS:
        raise Problem(f"It is one of: {', '.join(CONTENTS)}.")
    if shape == "text":
        return {"text": text}
    try:
        return validated(ContentIn, {shape: parse_json(text.encode("utf-8", "surrogatepass"))})
    except serializers.ValidationError as error:
        raise as_problem(error) from None


def stage_in(name: str) -> str:
    """A stage that was chosen on a page."""
    if name not in STAGES:
        raise Problem(f"Stages are: {', '.join(STAGES)}.")
    return name
