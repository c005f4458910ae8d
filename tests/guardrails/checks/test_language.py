"""Language: what is told, what is too short to tell, and what is hidden in a long text."""

from __future__ import annotations

import pytest

from apps.guardrails.checks import language
from apps.guardrails.checks.interface import Evaluate, Subject
from tests.guardrails.checks.looking import built, filled, refused, seconds

ENGLISH = "The meeting was moved to Thursday, so please bring the signed papers with you. "
GERMAN = "Die Besprechung wurde auf Donnerstag verschoben, bringen Sie bitte die Papiere mit. "
SPANISH = "La reunión se ha pasado al jueves, así que traiga por favor los papeles firmados. "
JAPANESE = (
    "会議は木曜日に変更されましたので、署名した書類を持ってきてください。よろしくお願いします。"
)


@pytest.fixture(scope="module")
def english() -> Evaluate:
    return built("language", allowed=["en"])


@pytest.mark.parametrize(
    "text", [ENGLISH, ENGLISH.upper(), "Could you tell me how the weather will be tomorrow?"]
)
def test_it_passes_what_is_allowed(english: Evaluate, text: str) -> None:
    assert english(Subject(text)).score == 0


@pytest.mark.parametrize(
    ("text", "code"), [(GERMAN, "de"), (SPANISH, "es"), (JAPANESE, "ja"), (GERMAN.upper(), "de")]
)
def test_it_finds_what_is_not_and_says_which(english: Evaluate, text: str, code: str) -> None:
    assert english(Subject(text)).reason == f"probably in {code}"


def test_it_finds_a_text_that_is_surely_in_one_of_two_languages(english: Evaluate) -> None:
    assert english(Subject("Hola, como estas amigo mio, todo bem")).score == 1


def test_it_allows_several() -> None:
    assert built("language", allowed=["en", "de"])(Subject(GERMAN)).score == 0


def test_it_takes_a_part_of_a_language_for_the_language() -> None:
    assert (
        built("language", allowed=["zh"])(Subject("佢哋今日唔得閒嚟開會，聽日先再傾啦。" * 3)).score
        == 0
    )


def test_it_does_not_judge_what_is_too_short(english: Evaluate) -> None:
    assert english(Subject("Guten Morgen")).score == 0


def test_it_counts_letters_when_it_says_too_short(english: Evaluate) -> None:
    assert english(Subject("Hallo 1234567890 1234567890 1234567890 !!!!!!!!!!")).score == 0


@pytest.mark.parametrize("text", ["1234 5678 " * 50, "+-*/ {} () " * 50, "", "😀" * 100])
def test_it_does_not_judge_what_is_in_no_language(english: Evaluate, text: str) -> None:
    assert english(Subject(text)).score == 0


def test_it_finds_the_part_of_a_long_text(english: Evaluate) -> None:
    text = ENGLISH * 100 + GERMAN * 30 + ENGLISH * 100
    (span,) = english(Subject(text)).spans
    hidden = (len(ENGLISH) * 100, len(ENGLISH) * 100 + len(GERMAN) * 30)
    assert abs(span[0] - hidden[0]) < 1_200
    assert abs(span[1] - hidden[1]) < 1_200


def test_it_judges_the_end_of_the_longest_text(english: Evaluate) -> None:
    text = filled(ENGLISH)[:-3_000] + (GERMAN * 40)[:3_000]
    assert english(Subject(text)).spans[-1][1] == len(text)


def test_padding_does_not_thin_out_a_language(english: Evaluate) -> None:
    padded = GERMAN.replace(" ", " " * 30 + "1234567890 ")
    assert english(Subject(padded * 3)).score == 1


def test_invisible_characters_do_not_hide_a_language(english: Evaluate) -> None:
    assert english(Subject("\u200b".join(GERMAN))).score == 1


def test_it_knows_what_the_identifier_knows() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    labels = set(LanguageIdentifier.from_model_file(MODEL_FILE).labels)
    assert {label for label in labels if len(label) == 2} == set(language.LANGUAGES)
    assert {code for codes in language._PARTS.values() for code in codes} <= labels


def test_it_wants_a_language() -> None:
    assert refused("language", allowed=[]) == "/allowed"


def test_it_wants_a_known_language() -> None:
    assert refused("language", allowed=["klingon"]) == "/allowed"


def test_it_is_quick(english: Evaluate) -> None:
    assert seconds(english, filled(ENGLISH)) < 0.6
