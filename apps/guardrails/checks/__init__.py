"""The kinds of checks, by name."""

from apps.guardrails.checks import classifier, keywords, regex
from apps.guardrails.checks.interface import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        classifier.KIND,
        keywords.KIND,
        regex.KIND,
    )
}
