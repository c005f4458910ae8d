"""Keys, tokens and passwords: what the plugins of detect-secrets know, run by RE2.

The plugins bring patterns and, some of them, a last look at what was found. Their patterns are for
Python's `re`, which needs minutes for some hostile texts of 64 kB, so RE2 runs them here. Nothing
is verified over the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from apps.guardrails.checks.candidates import MOST, compiled, views
from apps.guardrails.checks.interface import (
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    found,
    merged,
)

PLUGINS = (
    # module, class, and the group that is the secret (0: all that matches)
    ("artifactory", "ArtifactoryDetector", 0),
    ("aws", "AWSKeyDetector", 1),
    ("azure_storage_key", "AzureStorageKeyDetector", 0),
    ("basic_auth", "BasicAuthDetector", 0),
    ("cloudant", "CloudantDetector", 1),
    ("discord", "DiscordBotTokenDetector", 0),
    ("github_token", "GitHubTokenDetector", 0),
    ("gitlab_token", "GitLabTokenDetector", 0),
    ("ibm_cloud_iam", "IbmCloudIamDetector", 1),
    ("ibm_cos_hmac", "IbmCosHmacDetector", 1),
    ("jwt", "JwtTokenDetector", 0),
    ("mailchimp", "MailchimpDetector", 0),
    ("npm", "NpmDetector", 1),
    ("openai", "OpenAIDetector", 0),
    ("private_key", "PrivateKeyDetector", 0),
    ("pypi_token", "PypiTokenDetector", 0),
    ("sendgrid", "SendGridDetector", 0),
    ("slack", "SlackDetector", 0),
    ("softlayer", "SoftlayerDetector", 1),
    ("square_oauth", "SquareOAuthDetector", 0),
    ("stripe", "StripeDetector", 0),
    ("telegram_token", "TelegramBotTokenDetector", 0),
    ("twilio", "TwilioKeyDetector", 0),
)

_OWN = (
    # younger than the plugins
    ("Anthropic API Key", r"\bsk-ant-[A-Za-z0-9_-]{32,}"),
    ("GitHub Token", r"\bgithub_pat_[A-Za-z0-9_]{40,}"),
    ("Google API Key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("Hugging Face Token", r"\bhf_[A-Za-z0-9]{34,}"),
    ("OpenAI Token", r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}"),
    ("Slack Token", r"\bxapp-\d-[A-Z0-9]+-\d+-[a-f0-9]{32,}"),
)

_REPLACED = (
    # look-around of the plugins that RE2 has not, and its largest repetition
    (r"(?:(?<=\W)|(?<=^))", r"(?:^|\W)"),
    (r"(?!\w)", r"(?:$|\W)"),
    (r"(?![a-zA-Z0-9_\-])", r"(?:$|[^a-zA-Z0-9_\-])"),
    (r"(?![a-f0-9])", r"(?:$|[^a-f0-9])"),
    ("{50,1024}", "{50,}"),
    # the token, not all of its line
    ("((npm_.+)|([A-Fa-f0-9-]{36})).*", "(npm_[A-Za-z0-9_-]+|[A-Fa-f0-9-]{36})"),
    # its signature too, and no work for what is too short to have a header
    (
        r"eyJ[A-Za-z0-9-_=]+\.[A-Za-z0-9-_=]+\.?[A-Za-z0-9-_.+/=]*?",
        r"eyJ[A-Za-z0-9_=-]{10,}\.[A-Za-z0-9_=-]{2,}(?:\.[A-Za-z0-9_+/=-]*)?",
    ),
)
_ENTROPY = (
    # charset, plugin, its limit, and the fewest characters of a secret
    (r"A-Za-z0-9+/=_\-\\", "Base64HighEntropyString", 4.5, 23),
    ("0-9A-Fa-f", "HexHighEntropyString", 3.0, 20),
)
# of a private key the plugin finds its first line alone
_KEY = compiled(
    r"(?:-----)?(?:(?:\s|\\n)+(?:[A-Za-z-]+: [^\n]*|[A-Za-z0-9+/=]{16,}))*"
    r"(?:(?:\s|\\n)+[A-Za-z0-9+/=]*(?:\s|\\n)*-----END [A-Z0-9 ]+-----)?"
)
_LONGEST_KEY = 20_000
_EDGE = " \t\r\n=:\"'"


@dataclass(frozen=True)
class _Detector:
    """One pattern of a kind of secret."""

    title: str
    pattern: Any
    group: int = 0
    confirm: Callable[[str], bool] | None = None


def build(settings: Mapping[str, Any]) -> Evaluate:
    detectors = [*_detectors(), *(_entropy_detectors() if settings["entropy"] else ())]

    def evaluate(subject: Subject) -> Found:
        hits: dict[Span, str] = {}
        rest: list[Span] = []
        for view in views(subject):
            for detector in detectors:
                for number, span in enumerate(_secrets(detector, view.text)):
                    hits.setdefault(view.back(*span), detector.title)
                    if number + 1 == MOST:  # nobody looks at what follows
                        rest.append(view.back(span[1], len(view.text)))
                        break
        return found([*hits, *rest], _counted(hits))

    return evaluate


def _counted(hits: Mapping[Span, str]) -> str:
    titles = sorted(set(hits.values()))
    spans = {title: [span for span, of in hits.items() if of == title] for title in titles}
    return ", ".join(f"{len(merged(spans[title]))} {title}" for title in titles)


def _secrets(detector: _Detector, text: str) -> Iterator[Span]:
    after = 0
    for match in detector.pattern.finditer(text):
        start, end = match.span(detector.group)
        if start < after or (detector.confirm and not detector.confirm(match[detector.group])):
            continue
        if detector.title == "Private Key":
            end += _length_of_key(text, end)
        after = end
        while start < end and text[start] in _EDGE:
            start += 1
        while start < end and text[end - 1] in _EDGE:
            end -= 1
        yield start, end


def _length_of_key(text: str, start: int) -> int:
    match = _KEY.match(text[start : start + _LONGEST_KEY])
    return match.end() if match else 0


@cache
def _detectors() -> tuple[_Detector, ...]:
    """Loaded when the first policy uses them; a plugin that RE2 does not take fails here."""
    detectors = [_Detector(title, compiled(pattern)) for title, pattern in _OWN]
    for module, name, group in PLUGINS:
        plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        for pattern in plugin.denylist:
            translated = compiled(in_re2(pattern))
            has_group = min(group, translated.groups)
            confirm = _web_token(plugin) if module == "jwt" else None
            detectors.append(_Detector(plugin.secret_type, translated, has_group, confirm))
    return tuple(detectors)


def _web_token(plugin: Any) -> Callable[[str], bool]:
    """By header and body, as the plugin: what touches the signature must not hide the token."""
    return lambda token: plugin.is_formally_valid(".".join(token.split(".")[:2]))


def in_re2(pattern: re.Pattern[str]) -> str:
    """A plugin's pattern in RE2's syntax."""
    text = pattern.pattern
    for theirs, ours in _REPLACED:
        text = text.replace(theirs, ours)
    return f"(?i){text}" if pattern.flags & re.IGNORECASE else text


def _entropy_detectors() -> Iterator[_Detector]:
    module = import_module("detect_secrets.plugins.high_entropy_strings")
    for charset, name, limit, fewest in _ENTROPY:
        plugin = getattr(module, name)(limit=limit)
        either = "|".join(f"{quote}[{charset}]{{{fewest},}}{quote}" for quote in "'\"")
        yield _Detector(plugin.secret_type, compiled(either), 0, _entropic(plugin, limit))


def _entropic(plugin: Any, limit: float) -> Callable[[str], bool]:
    return lambda quoted: plugin.calculate_shannon_entropy(quoted[1:-1]) > limit


KIND = Kind(
    name="secrets",
    title="Secrets",
    about="Finds keys, tokens and passwords of many services, private keys and web tokens.",
    fields=(
        Field(
            "entropy",
            "yes_no",
            "Also random strings in quotes",
            "Finds unknown kinds of keys, and other things that look random.",
            False,
        ),
    ),
    build=build,
)
