"""Web addresses: what is one, in all its disguises, and whose it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.guardrails.checks.interface import Subject
from apps.guardrails.checks.urls import canonical, within
from tests.guardrails.checks.looking import built, filled, marked, refused, seconds

ALL = built("urls")
ONLY = built("urls", mode="only", domains=["example.com", "bücher.example"])
NEVER = built("urls", mode="never", domains=["evil.com", "127.0.0.1"])

EVIL = [
    "http://evil.com",
    "HTTPS://EVIL.COM/path?q=1#x",
    "http://www.evil.com:8080/",
    "ftp://evil.com/file",
    "evil.com",
    "evil.com.",
    "www.evil.com",
    "evil.com/path",
    "evil.com:443",
    "http://example.com@evil.com/",
    "http://example.com:secret@evil.com",
    "http://example.com%40evil.com@evil.com",
    "example.com@evil.com/login",
    "hxxp://evil.com",
    "hxxps[:]//evil[.]com",
    "evil(dot)com",
    "evil。com",
    "http://evil．com",
    "http://evil｡com",
    "http://ｅｖｉｌ.com",
    "http://ev%69l.com",
    "http://ev\u200bil.com",
    "http://e\u00advil.com/",
    "http:evil.com",
    "http:/evil.com",
    "http:\\\\evil.com",
    "https://evil.com\\@example.com",
    "//evil.com/x.js",
    "http://example.com/?next=http://evil.com/",
    "http://example.com,http://evil.com",
    "[text](http://evil.com/a)",
    '<a href="http://evil.com">',
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "127.0.0.1",
    "http://" + "a" * 3_000 + "@evil.com/",
    "a." * 3_000 + "evil.com",
]


@pytest.mark.parametrize("text", EVIL)
def test_it_finds_a_domain_in_every_disguise(text: str) -> None:
    assert NEVER(Subject(f"Look at {text} now")).score == 1


@pytest.mark.parametrize("text", EVIL)
def test_it_lets_no_disguise_pass_for_an_allowed_domain(text: str) -> None:
    assert ONLY(Subject(f"Look at {text} now")).score == 1


@pytest.mark.parametrize(
    "text",
    [
        *["notevil.com", "http://evil.com.example.org/", "evil.community", "e.vil.com"],
        *["http://example.org/evil.com", "someone@evil.com", "first.evil.com@example.org"],
    ],
)
def test_it_does_not_find_another_domain(text: str) -> None:
    assert NEVER(Subject(f"Look at {text} now")).score == 0


@pytest.mark.parametrize(
    "text",
    [
        *["https://example.com", "http://a.b.EXAMPLE.com/x", "example.com", "http://example.com./"],
        *["https://bücher.example/", "https://xn--bcher-kva.example/", "https://BÜCHER.example"],
        *["http://user:word@example.com/", "http://example.com:8443"],
    ],
)
def test_it_passes_what_is_allowed(text: str) -> None:
    assert ONLY(Subject(f"Look at {text} now")).score == 0


@pytest.mark.parametrize(
    "text",
    [
        *["http://example.com.evil.com", "http://examp1e.com", "http://еxample.com"],
        *[
            "http://localhost:8000",
            "http://[::1]/",
            "http://notexample.com",
            "http://bucher.example",
        ],
        *["https://example.com'@evil.motorcycles/", 'https://example.com"x@evil.motorcycles/'],
        *[
            "![](//evil.motorcycles/a.png)",
            r"[a](\\evil.motorcycles)",
            "<img src='//evil.example/'>",
            "![](///evil.motorcycles/a.png)",
            r"[a](/\evil.motorcycles)",
            r"<img src='\/evil.example/'>",
            "[1]: //evil.motorcycles/a.png",
            "[a]( //evil.motorcycles/a.png )",
        ],
    ],
)
def test_it_finds_what_only_looks_allowed(text: str) -> None:
    assert ONLY(Subject(f"Look at {text} now")).score == 1


@pytest.mark.parametrize(
    "text",
    [
        "That is all.Nothing more e.g. this, i.e. that, etc.and so on.",
        "See notes.md, main.py and setup.sh; then run foo.bar() or obj.method.call.",
        "It ends here.In the next chapter it begins.It is so.",
        "3.14 and 1.2.3 and v1.2.3.4 and 1,234.56 and 12:30 and 999.1.1.1",
        "Write to first.last@example.com or mailto:someone@example.org.",
        "今天天气很好。我们去公园。你呢？",
        "Конец.Начало нового. Error: http: error, https:failed",
        "data:image/png;base64,AAAA javascript:void(0) C:\\temp\\file.txt",
    ],
)
def test_it_takes_no_prose_for_an_address(text: str) -> None:
    assert marked(ALL, text) == []


@pytest.mark.parametrize(
    "address",
    [
        *["http://x", "https://example.com/a_(b", "ftp://files.example", "custom+scheme://host/x"],
        *["example.com", "www.example.unknown", "пример.рф", "xn--e1afmkfd.xn--p1ai", "10.0.0.1"],
        *["notes.md/x", "sub.notes.md", "http://[2001:db8::1]:80/", "example.com:80/a?b"],
    ],
)
def test_it_marks_all_of_an_address_and_not_the_sentence_around(address: str) -> None:
    assert marked(ALL, f'See ("{address}"), or not.') == [address]


def test_it_says_how_many() -> None:
    said = ONLY(Subject("http://a.net http://b.net example.com")).reason
    assert said == "2 web addresses not allowed"


def test_of_very_many_it_marks_all_the_rest() -> None:
    text = "http://a.net " * 1_000 + "evil.net and more"
    assert ALL(Subject(text)).spans[-1][1] == len(text)


@pytest.mark.parametrize("mode", ["only", "never"])
def test_it_wants_domains_for_a_list(mode: str) -> None:
    assert refused("urls", mode=mode) == "/domains"


def test_it_does_not_leave_a_list_unused() -> None:
    assert refused("urls", domains=["example.com"]) == "/domains"


@pytest.mark.parametrize(
    "line", ["http://example.com", "example.com/path", "a b.com", "com", "a@b.c"]
)
def test_it_wants_domains_alone(line: str) -> None:
    assert refused("urls", mode="never", domains=[line]) == "/domains"


def test_a_star_before_a_domain_is_understood() -> None:
    assert built("urls", mode="never", domains=["*.evil.com"])(Subject("a.evil.com")).score == 1


@given(host=st.text(max_size=60))
def test_the_one_form_of_a_host_is_its_own(host: str) -> None:
    try:
        host.encode()
    except UnicodeEncodeError:
        return
    assert canonical(canonical(host)) in ("", canonical(host))


def test_a_domain_is_within_itself_and_above_its_parts() -> None:
    assert within("a.b.example.com", frozenset(["example.com"]))
    assert not within("badexample.com", frozenset(["example.com"]))


def test_addresses_stand_in_order() -> None:
    text = "b.com http://a.com c.com http://d.com/e.com"
    spans = built("urls", mode="all")(Subject(text)).spans
    assert [text[start:end] for start, end in spans] == text.split()


HOSTILE = [
    "a.",
    "a.b,",
    "http://",
    "http:a,",
    "http://a@",
    "a@a.com/",
    "%61.",
    "[.]",
    "1.1.1.1 ",
    "=//",
    "(//a",
    "http:'@",
    "。",
]


@pytest.mark.parametrize(
    "text",
    [
        '["https://example.com","bob@evil.com"]',
        '<a href="https://example.com">bob@evil.com</a>',
        "('https://example.com') bob@evil.com",
        'x = "//server/share" (// a comment)',
    ],
)
def test_what_stands_behind_a_quoted_address_is_no_part_of_it(text: str) -> None:
    assert ONLY(Subject(text)).score == 0


@pytest.mark.parametrize("repeated", HOSTILE)
def test_its_work_is_bounded(repeated: str) -> None:
    assert seconds(NEVER, filled(repeated)) < 1.5
