"""Secrets: those of the plugins, our own, and that RE2 finds what the plugins find."""

from __future__ import annotations

import base64
import socket
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.guardrails.checks import secrets
from apps.guardrails.checks.interface import Evaluate, Subject
from tests.guardrails.checks.looking import built, filled, marked, seconds

A = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ0bC2eF4hJ6kL8nP0rS2uV4xX6zA8cD1fG3iI5lM7oO9qR1tU3wY5"


def b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


HEADER, BODY = b64('{"alg":"HS256","typ":"JWT"}'), b64('{"sub":"1234567890"}')
JWT = f"{HEADER}.{BODY}.{A[:43]}"
# put together here, so that scanners of this repository leave them alone
SECRETS = {
    "AWS Access Key": ["AKIA" + "ABCDEFGHIJKLMNOP", "ASIA" + "Q" * 16],
    "GitHub Token": ["ghp_" + A[:36], "github_pat_" + A[:60]],
    "GitLab Token": ["glpat-" + A[:20], "glagent-" + A[:60], "GR1348941" + A[:20]],
    "Slack Token": ["xoxb-" + "123456789012-" + "abcdefghij", "xapp-1-A0B1C2-123-" + "0a" * 20],
    "Stripe Access Key": ["sk_live_" + A[:24], "rk_live_" + A[:24]],
    "OpenAI Token": ["sk-" + A[:20] + "T3BlbkFJ" + A[:20], "sk-proj-" + A[:60]],
    "Anthropic API Key": ["sk-ant-" + "api03-" + A[:60]],
    "Google API Key": ["AIza" + A[:35]],
    "Hugging Face Token": ["hf_" + A[:34]],
    "JSON Web Token": [JWT],
    "SendGrid API Key": ["SG." + A[:22] + "." + A[:43]],
    "Twilio API Key": ["AC" + "0a" * 16],
    "Mailchimp Access Key": ["0a" * 16 + "-us12"],
    "Telegram Bot Token": ["123456789:" + A[:35]],
    "PyPI Token": ["pypi-" + "AgEIcHlwaS5vcmc" + A[:72]],
    "Square OAuth Secret": ["sq0csp-" + A[:43]],
    "Azure Storage Account access key": ["AccountKey=" + A[:70] + A[:16] + "=="],
    "Discord Bot Token": ["M" + A[:23] + "." + A[:6] + "." + A[:27]],
    "NPM tokens": ["//registry.npmjs.org/:_authToken=npm_" + A[:20]],
    "Basic Auth Credentials": ["https://user:pass-word@example.com"],
    "Artifactory Credentials": ["AKC" + A[:12]],
    "IBM Cloud IAM Key": ["ibm_api_key = '" + A[:44] + "'"],
    "IBM COS HMAC Credentials": ["cos_secret_access_key: " + "0a" * 24],
    "SoftLayer Credentials": ["softlayer_password = " + "0a" * 32],
    "Cloudant Credentials": ["cloudant_password = " + "0a" * 32],
}
EACH = [(title, text) for title, texts in SECRETS.items() for text in texts]


@pytest.fixture(scope="module")
def evaluate() -> Evaluate:
    return built("secrets")


@pytest.mark.parametrize(("title", "text"), EACH, ids=[title for title, _ in EACH])
def test_it_finds_a_secret_and_says_of_which_kind(
    evaluate: Evaluate, title: str, text: str
) -> None:
    said = evaluate(Subject(f"here: {text} and on")).reason
    assert f"1 {title}" in said


@pytest.mark.parametrize(("title", "text"), EACH, ids=[title for title, _ in EACH])
def test_it_marks_a_secret_in_its_text(evaluate: Evaluate, title: str, text: str) -> None:
    found = "".join(marked(evaluate, f"see: {text} and on"))
    assert len(found) >= 12
    assert found in text


@pytest.mark.parametrize(
    "title", ["GitHub Token", "AWS Access Key", "JSON Web Token", "OpenAI Token"]
)
def test_it_marks_all_of_a_token(evaluate: Evaluate, title: str) -> None:
    for token in SECRETS[title]:
        assert marked(evaluate, f"a='{token}' b") == [token]


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\u2060"])
def test_invisible_characters_do_not_hide_a_secret(evaluate: Evaluate, hidden: str) -> None:
    token = hidden.join("ghp_" + A[:36])
    assert marked(evaluate, f"a {token} b") == [token]


@pytest.mark.parametrize("behind", ["", "a", "ab", "abc", ".", ".a"])
def test_what_touches_a_web_token_does_not_hide_it(evaluate: Evaluate, behind: str) -> None:
    assert evaluate(Subject(JWT + behind)).reason == "1 JSON Web Token"


def test_it_marks_a_private_key_to_its_end(evaluate: Evaluate) -> None:
    body = "\n".join([A[:64]] * 5)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\nabc=\n-----END RSA PRIVATE KEY-----"
    (span,) = evaluate(Subject(f"my key:\n{key}\nis this")).spans
    assert f"my key:\n{key}\nis this"[slice(*span)].endswith(key[11:])


def test_it_marks_a_private_key_within_a_json_text(evaluate: Evaluate) -> None:
    text = f'{{"k": "-----BEGIN PRIVATE KEY-----\\n{A[:64]}\\n-----END PRIVATE KEY-----\\n"}}'
    assert A[:64] in marked(evaluate, text)[0]


@pytest.mark.parametrize(
    "text",
    [
        *["sk-learn and sk-image", "eyJust a word.and another", "AKIA is a prefix", "key = value"],
        *[
            "https://example.com:8080/@name",
            "user:word@example.com",
            "ghp_short",
            "BEGIN CERTIFICATE",
        ],
        f"{b64('no header here at all')}.{b64('nor a body')}",
    ],
)
def test_it_takes_no_other_thing_for_a_secret(evaluate: Evaluate, text: str) -> None:
    assert evaluate(Subject(text)).score == 0


def test_random_strings_are_found_when_that_is_wanted() -> None:
    text = f"x = '{A[:40]}'"
    assert built("secrets")(Subject(text)).score == 0
    assert marked(built("secrets", entropy=True), text) == [A[:40]]


def test_strings_that_repeat_are_not_random() -> None:
    assert built("secrets", entropy=True)(Subject(f"x = '{'ab' * 20}' '{'0' * 40}'")).score == 0


def test_two_secrets_of_a_kind_are_two(evaluate: Evaluate) -> None:
    text = f"{'AKIA' + 'A' * 16} {'AKIA' + 'B' * 16}"
    assert evaluate(Subject(text)).reason == "2 AWS Access Key"


def test_a_secret_behind_two_hundred_is_marked_too(evaluate: Evaluate) -> None:
    text = ("AKIA" + "A" * 16 + " ") * 250
    assert evaluate(Subject(text)).spans[-1][1] == len(text)


# what RE2 runs in the place of the plugins


def plugins() -> list[object]:
    return [
        getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        for module, name, _ in secrets.PLUGINS
    ]


def test_it_uses_every_plugin_but_those_that_guess() -> None:
    from pathlib import Path

    import detect_secrets.plugins

    folder = Path(detect_secrets.plugins.__file__).parent
    guessing = {"__init__", "base", "high_entropy_strings", "ip_public", "keyword"}
    there = {path.stem for path in folder.glob("*.py")} - guessing
    assert {module for module, _, _ in secrets.PLUGINS} == there


def test_re2_takes_every_pattern_of_every_plugin() -> None:
    for plugin in plugins():
        for pattern in plugin.denylist:
            assert "(?!" not in secrets.in_re2(pattern)
            assert "(?<" not in secrets.in_re2(pattern)


@given(
    parts=st.lists(
        st.sampled_from([*(text for _, text in EACH), *" \n.,;='\"-_/:@", "key", "é", A[:9], "0a"]),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_what_a_plugin_finds_is_found(parts: list[str]) -> None:
    text = "".join(parts)
    theirs = {plugin.secret_type for plugin in plugins() if any(plugin.analyze_string(text))}
    said = built("secrets")(Subject(text)).reason
    # a pattern needs a character behind a token that RE2 takes from the next one
    assert not theirs or said


def test_nothing_is_asked_over_the_network(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert evaluate(Subject("\n".join(text for _, text in EACH))).score == 1


HOSTILE = [
    *[
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaaaa.aa.",
        "//",
        "//a/:_authToken",
        "sk-",
        "sk-aT3BlbkFJ",
        "xoxb-1-",
    ],
    *[
        "glagent-",
        "glagent-a",
        "glpat-a",
        "AKIA",
        "aws key '",
        "key  =  ",
        "softlayer_key=",
        "://a:b@",
    ],
    *[
        "://a:",
        "M",
        "a",
        "0",
        "'",
        "'\"",
        "BEGIN PRIVATE KEY",
        "-----BEGIN PRIVATE KEY-----\n",
        "pypi-",
    ],
    *["'0123456789abcdef0123456789abcdef' ", f"'{A[:40]}' ", "https://hooks.slack.com/services/T"],
]


@pytest.mark.parametrize("text", [*map(filled, HOSTILE), "key" + " " * 65_000, "//" + "a" * 65_000])
def test_its_work_is_bounded(text: str) -> None:
    assert seconds(built("secrets", entropy=True), text) < 0.3
