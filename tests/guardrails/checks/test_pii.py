"""Personal data: what is one, what only looks like one, and what is hidden.

All numbers are made up or meant for tests, with right check digits.
"""

from __future__ import annotations

import json
import random

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from apps.guardrails.checks import pii
from apps.guardrails.checks.interface import Call, Subject
from apps.runtime.judgement import redacted
from tests.guardrails.checks.looking import built, filled, marked, refused, seconds

CARDS = [
    *["4111111111111111", "4012888888881881", "4222222222222", "5555555555554444"],
    *["2223003122003222", "378282246310005", "30569309025904", "6011111111111117"],
    *["3530111333300000", "6200000000000005", "6759649826438453"],
]
IBANS = [
    *["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606"],
    *["NL91ABNA0417164300", "NO9386011117947", "CH9300762011623852957", "ES9121000418450200051332"],
    *["PL61109010140000071219812874", "MT84MALT011000012345MTLCAST001S"],
]
IDS = [
    *[("US", "536-90-4399"), ("GB", "943 476 5870"), ("DE", "36 574 261 809"), ("ES", "54362315K")],
    *[("ES", "X-2482300W"), ("FR", "2 95 10 99 126 111 93"), ("NL", "111222333")],
    *[("IT", "RCCMNL83S18D969H"), ("PL", "44051401359"), ("SE", "880320-0016")],
    *[("BR", "390.533.447-05"), ("IN", "2341 2341 2346")],
]


def finding(*kinds: str, **more: object) -> object:
    return built("pii", find=list(kinds), **more)


# cards


@pytest.mark.parametrize("number", CARDS)
def test_it_finds_a_card(number: str) -> None:
    assert marked(finding("card"), f"It is {number}, thanks") == [number]


@pytest.mark.parametrize(
    "number",
    [
        *["4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111", "3782 822463 10005"],
        *["4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "4111 - 1111 - 1111 - 1111", "4111–1111–1111–1111"],
        *[
            "４１１１１１１１１１１１１１１１",
            "٤١١١١١١١١١١١١١١١",
            "4111\u00a01111\u00a01111\u00a01111",
        ],
        *[
            "4111\u200b1111\u200b1111\u200b1111",
            "4\u00ad1\u00ad11111111111111",
            "41111111\u2060 11111111",
        ],
    ],
)
def test_no_way_to_write_hides_a_card(number: str) -> None:
    assert marked(finding("card"), f"No. {number}.") == [number]


@pytest.mark.parametrize(
    "text",
    [
        "Write to Help@Acme.example.",
        "Write to ann@sales.example.",
        "Call +49 (30) 901820.",
        "IBAN DE89 3704 0044 0532 0130 00",
    ],
)
def test_what_is_ours_is_not_found(text: str) -> None:
    ours = ["help@acme.example", "@sales.example", "+4930901820", "DE89370400440532013000", ""]
    assert finding("email", "phone", "iban")(Subject(text)).spans
    assert not finding("email", "phone", "iban", ours=ours)(Subject(text)).spans


@pytest.mark.parametrize(
    "text",
    [
        "ann@acme.example",
        "xhelp@acme.example",
        "help@acme.example.com",
        "help@shop.sales.example",
        "help@acme.example joe@acme.example",
    ],
)
def test_what_only_looks_like_ours_is_found(text: str) -> None:
    ours = ["help@acme.example", "@sales.example"]
    found = finding("email", ours=ours)(Subject(text))
    assert found.reason == "1 e-mail address"


def test_what_a_call_says_twice_is_counted_once() -> None:
    arguments = {"to": "joe@acme.example", "copy": "ann@acme.example"}
    call = Call("send_email", arguments)
    text = "\n".join([f"send_email {json.dumps(arguments)}", *arguments.values()])
    found = finding("email")(Subject(text, calls=(call,)))
    assert (found.reason, len(found.spans)) == ("2 e-mail addresses", 4)


def test_it_finds_a_card_beside_other_numbers() -> None:
    text = "2030 4111 1111 1111 1111 123"
    assert marked(finding("card"), text) == ["4111 1111 1111 1111"]


@pytest.mark.parametrize(
    "text",
    [
        *["4111111111111112", "1234567812345670", "0000000000000000", "411111111111111", "12"],
        *[
            "99994111111111111111",
            "41111111111111119999",
            "4111 1111\n1111 1111",
            "4111x1111x1111x1111",
        ],
    ],
)
def test_it_takes_no_other_number_for_a_card(text: str) -> None:
    assert finding("card")(Subject(text)).score == 0


@given(first=st.sampled_from(["4", "51", "2221", "6011"]), rest=st.text("0123456789", min_size=15))
def test_a_card_is_found_by_its_check_digit_alone(first: str, rest: str) -> None:
    body = (first + rest)[:15]
    right = int(luhn.calc_check_digit(body))
    found = [digit for digit in range(10) if finding("card")(Subject(f"no {body}{digit} ok")).score]
    assert found == [right]


# IBANs


@pytest.mark.parametrize("number", IBANS)
def test_it_finds_an_iban(number: str) -> None:
    in_groups = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    text = f"pay to {number} or {in_groups} or {number.lower()} today"
    assert marked(finding("iban"), text) == [number, in_groups, number.lower()]


@pytest.mark.parametrize("number", IBANS)
def test_it_takes_no_iban_with_a_wrong_check_digit(number: str) -> None:
    wrong = number[:3] + str((int(number[3]) + 1) % 10) + number[4:]
    assert finding("iban")(Subject(wrong)).score == 0


def test_the_words_behind_an_iban_are_not_part_of_it() -> None:
    text = "DE89 3704 0044 0532 0130 00 is my account"
    assert marked(finding("iban"), text) == ["DE89 3704 0044 0532 0130 00"]


def test_it_knows_every_country_of_the_registry() -> None:
    for country in pii._IBAN_COUNTRIES.split():
        assert iban._ibandb.info(country)[0][1]


# e-mail


@pytest.mark.parametrize(
    "address",
    [
        *["a@b.co", "first.last+tag@mail.example.com", "o'neil@example.org", "имя@пример.рф"],
        *["user＠example．com", "us\u200ber@example.com", "x@xn--e1afmkfd.xn--p1ai"],
    ],
)
def test_it_finds_an_e_mail_address(address: str) -> None:
    assert marked(finding("email"), f"Write to <{address}>!") == [address]


@pytest.mark.parametrize("text", ["a @ b.co", "@name", "a@b", "5 @ 3.50", "a@.com", "@@@@"])
def test_it_takes_no_other_at_for_an_address(text: str) -> None:
    assert finding("email")(Subject(text)).score == 0


def test_letters_before_an_address_do_not_hide_it() -> None:
    assert finding("email")(Subject("x" * 1_000 + "@example.com")).score == 1


# phone numbers


@pytest.mark.parametrize(
    ("text", "region"),
    [
        *[("+44 20 7946 0958", ""), ("+1 (650) 253-0000", ""), ("+49 (0)30 123456", "")],
        *[
            ("＋１ ６５０ ２５３ ００００", ""),
            ("+1650\u200b2530000", ""),
            ("+33 6 12 34 56 78", ""),
        ],
        *[
            ("(650) 253-0000", "US"),
            ("650-253-0000", "US"),
            ("650.253.0000", "us"),
            ("6502530000", "US"),
        ],
        *[("1 650 253 0000", "US"), ("030 123456", "DE"), ("0049 30 123456", "DE")],
        *[
            ("020 7946 0958", "GB"),
            ("06 12 34 56 78", "FR"),
            ("912 345 678", "ES"),
            ("011 44 20 7946 0958", "US"),
        ],
        *[("98765 43210", "IN"), ("(11) 96123-4567", "BR")],
    ],
)
def test_it_finds_a_phone_number(text: str, region: str) -> None:
    assert finding("phone", region=region)(Subject(f"Call {text} now")).reason == "1 phone number"


@pytest.mark.parametrize(
    ("text", "region"),
    [
        *[
            ("650-253-0000", ""),
            ("+999 123 4567", ""),
            ("+1 111 111 1111", ""),
            ("030 123456", "US"),
        ],
        *[("2030-01-31 12:30:00", "US"), ("31.01.2030 12:30", "DE"), ("192.168.100.200", "US")],
        *[("a6502530000b", "US"), ("1234567.890", "US"), ("123 456", "US"), ("4444 4444", "DE")],
        *[("6 5 0 2 5 3 0 0 0 0", "US"), ("2024 212 99", "US")],
    ],
)
def test_it_takes_no_other_number_for_a_phone_number(text: str, region: str) -> None:
    assert finding("phone", region=region)(Subject(f"See {text} now")).score == 0


def test_it_finds_the_number_behind_a_year() -> None:
    evaluate = finding("phone", region="US")
    assert marked(evaluate, "in 2024 212 555 1234 646 555 9876") == ["212 555 1234", "646 555 9876"]


@pytest.mark.parametrize("region", ["US", "GB", "FR", "AU", "IT", "BR", "RU"])
def test_it_finds_the_examples_of_the_library(region: str) -> None:
    evaluate = finding("phone", region=region)
    national = phonenumbers.PhoneNumberFormat.NATIONAL
    for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
        number = phonenumbers.example_number_for_type(region, kind)
        assert evaluate(Subject(phonenumbers.format_number(number, national))).score == 1


@given(digits=st.text("0123456789", min_size=6, max_size=13))
@settings(max_examples=200)
def test_what_is_found_is_valid_for_the_library(digits: str) -> None:
    for text, region in ((f"+{digits}", ""), (digits, "US"), (f"0{digits}", "DE")):
        if finding_phone[region](Subject(text)).score:
            assert phonenumbers.is_valid_number(phonenumbers.parse(text, region or None))


finding_phone = {region: finding("phone", region=region) for region in ("", "US", "DE")}


# national IDs and IP addresses


@pytest.mark.parametrize(("country", "number"), IDS)
def test_it_finds_a_national_id(country: str, number: str) -> None:
    evaluate = finding("national_id", countries=[country])
    assert marked(evaluate, f"ID {number} {number}.") == [number, number]


@pytest.mark.parametrize(("country", "number"), [one for one in IDS if one[0] != "US"])
def test_it_takes_no_national_id_with_a_wrong_check_digit(country: str, number: str) -> None:
    at = max(place for place, one in enumerate(number) if one.isdigit())
    wrong = number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :]
    assert finding("national_id", countries=[country])(Subject(f"ID {wrong}.")).score == 0


def test_an_id_of_the_us_counts_in_its_own_form_only() -> None:
    assert finding("national_id", countries=["US"])(Subject("order 536904399")).score == 0


def test_it_finds_the_ids_of_the_chosen_countries_only() -> None:
    assert finding("national_id", countries=["FR"])(Subject("44051401359")).score == 0


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "2001:db8::ff00:42:8329", "fe80::1ff:fe23:4567:890a"]
)
def test_it_finds_an_ip_address(address: str) -> None:
    assert marked(finding("ip"), f"from {address}.") == [address]


@pytest.mark.parametrize(
    "text", ["1.2.3", "1.2.3.4.5", "999.1.1.1", "12:30:45", "a[1::2]", "std::abc1", "v1.2.3.4x"]
)
def test_it_takes_no_other_thing_for_an_ip_address(text: str) -> None:
    assert finding("ip")(Subject(text)).score == 0


# all together


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*CARDS, *IBANS, "+442079460958", "a.b@example.com"]),
            st.sampled_from(["", " ", ", ", "-", "."]),
        ),
        max_size=5,
    )
)
@settings(deadline=None)
def test_what_remains_when_it_is_cut_out_has_nothing_left_to_find(parts: list[tuple]) -> None:
    check = finding("card", "iban", "phone", "email")
    text = "".join(one + between for one, between in parts)
    rest = redacted(text, check(Subject(text)).spans)
    assert check(Subject(rest)).spans == ()


def test_an_iban_right_behind_a_card_is_found() -> None:
    numbers = "4111 1111 1111 1111", "NL91ABNA0417164300"
    assert marked(finding("card", "iban"), "".join(numbers)) == ["".join(numbers)]


def test_it_says_how_many_of_which() -> None:
    text = "a@b.co, 4111 1111 1111 1111 and c@d.co"
    assert built("pii")(Subject(text)).reason == "2 e-mail addresses, 1 card number"


def test_a_number_counts_once() -> None:
    evaluate = finding("card", "phone", "national_id", region="US", countries=["US", "NL"])
    assert evaluate(Subject("3782 822463 10005")).reason == "1 card number"


def test_it_finds_only_what_is_chosen() -> None:
    assert finding("card")(Subject("a@b.co")).score == 0


def test_of_very_many_it_marks_all_the_rest() -> None:
    text = "a@b.co " * 500 + "and more"
    found = built("pii")(Subject(text))
    assert found.reason == "200 or more e-mail addresses"
    assert found.spans[-1][1] == len(text)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        *[
            ({"find": []}, "/find"),
            ({"find": ["shoe_size"]}, "/find"),
            ({"region": "XX"}, "/region"),
        ],
        *[({"find": ["national_id"]}, "/countries"), ({"countries": ["US"]}, "/countries")],
    ],
)
def test_it_says_which_setting_is_wrong(wrong: dict[str, object], pointer: str) -> None:
    assert refused("pii", **wrong) == pointer


# time

MADE_UP = random.Random(7)


def numbers(width: int) -> str:
    return filled(" ".join(f"{MADE_UP.randrange(10**width):0{width}}" for _ in range(30_000)))


LARGE = {
    "all digits": filled("7"),
    "random digits": "".join(MADE_UP.choices("0123456789", k=65_536)),
    "digits": numbers(1),
    "pairs": numbers(2),
    "triples": numbers(3),
    "fours": numbers(4),
    "tens": numbers(10),
    "no phones": filled("+1 999 999 9999 "),
    "dates": filled("2030-05-01 12:30:33 "),
    "no cards": filled("4444 "),
    "no IBANs": filled("NO00 1111 1111 111 "),
    "ats": filled("a@"),
    "prose": filled("The quick brown fox jumps over the lazy dog, 12 times a day. "),
    "full-width": filled("４"),
}


@pytest.mark.parametrize("name", LARGE)
def test_it_judges_the_largest_text_quickly(name: str) -> None:
    evaluate = finding("email", "phone", "card", "iban", "ip", region="US")
    # 50 ms on a machine that does nothing else
    assert seconds(evaluate, LARGE[name]) < 0.4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("call +14155552671 now", "+14155552671"),
        ("call (415) 555-2671 now", "(415) 555-2671"),
        ("call +1 (415) 555-2671 now", "+1 (415) 555-2671"),
        ("call (+1) 415 555 2671 now", "(+1) 415 555 2671"),
        ("(call 415-555-2671)", "415-555-2671"),
    ],
)
def test_a_phone_number_is_marked_with_its_signs(text: str, found: str) -> None:
    assert marked(built("pii", find=["phone"], region="US"), text) == [found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tel:415-555-2671", "415-555-2671"),
        ("Phone:4155552671", "4155552671"),
        ("IP:2001:db8::ff00:42:8329", "2001:db8::ff00:42:8329"),
        ("9:4155552671", None),
        ("4155552671:9", None),
    ],
)
def test_a_label_before_it_hides_nothing(text: str, found: str | None) -> None:
    evaluate = built("pii", find=["phone", "ip"], region="US")
    assert marked(evaluate, text) == ([found] if found else [])


def test_of_very_many_it_marks_the_rest_also_where_another_kind_lies_over_them() -> None:
    text = "+14155552671@example.com " * 199 + "+14155552671 +14155552672 +14155552673 end"
    found = finding("email", "phone")(Subject(text))
    assert found.spans[-1][1] == len(text)


def test_behind_very_many_of_one_kind_another_is_told() -> None:
    text = "one@example.com " * 200 + "+14155552671"
    told = finding("email", "phone")(Subject(text)).reason
    assert told == "200 or more e-mail addresses, 1 phone number"
