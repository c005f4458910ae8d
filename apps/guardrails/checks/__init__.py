"""The kinds of checks, by name."""

from apps.guardrails.checks import (
    classifier,
    json_schema,
    judging,
    keywords,
    language,
    length,
    near_copy,
    pii,
    regex,
    retrieval,
    secrets,
    tool_call,
    urls,
)
from apps.guardrails.checks.interface import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        classifier.KIND,
        keywords.KIND,
        regex.KIND,
        length.KIND,
        language.KIND,
        urls.KIND,
        pii.KIND,
        secrets.KIND,
        json_schema.KIND,
        near_copy.KIND,
        retrieval.KIND,
        tool_call.KIND,
        judging.KIND,
    )
}
