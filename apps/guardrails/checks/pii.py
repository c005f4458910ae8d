"""Personal data: addresses and numbers with a structure that can be verified.

Cheap patterns and arrays tell what might be one, a library whether it is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import phonenumbers
from phonenumbers import PhoneMetadata
from stdnum import iban, luhn, numdb

from apps.guardrails.checks.candidates import MOST, View, compiled, counted, views
from apps.guardrails.checks.digits import Digits
from apps.guardrails.checks.interface import (
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    found,
    wrong,
)

_FEWEST_DIGITS = 7
_MORE_LOOKS = 3

Finder = Callable[[Digits], Iterable[Span]]

NAMES = {
    "email": ("e-mail address", "e-mail addresses"),
    "card": ("card number", "card numbers"),
    "iban": ("IBAN", "IBANs"),
    "national_id": ("national ID", "national IDs"),
    "phone": ("phone number", "phone numbers"),
    "ip": ("IP address", "IP addresses"),
}


def build(settings: Mapping[str, Any]) -> Evaluate:
    chosen, countries = settings["find"], settings["countries"]
    if not chosen:
        raise wrong("find", "Choose at least one kind of data.")
    if ("national_id" in chosen) != bool(countries):
        raise wrong("countries", "Choose countries for national IDs, and only for those.")
    region = settings["region"].strip().upper()
    if region and region not in phonenumbers.SUPPORTED_REGIONS:
        raise wrong("region", "Give a country's two letters, such as US, or nothing.")
    finders: dict[str, Finder] = {
        "email": _emails,
        "card": _cards,
        "iban": _ibans,
        "national_id": _national_ids(countries),
        "phone": _phones(region),
        "ip": _ips,
    }
    # load the digits of other scripts and the largest pattern before a text has to wait for them
    Digits("\u0660")
    _iban_pattern()

    used = [(name, finders[name]) for name in NAMES if name in chosen]
    ours = {_plain(line) for line in settings["ours"] if line.strip()}

    def evaluate(subject: Subject) -> Found:
        whole, end = subject, len(subject.text)
        hits, unseen_from = _look(subject, used)
        new = hits
        for _ in range(_MORE_LOOKS):
            if not new:
                break
            # what began within something else would stand alone once that is cut out
            known = [*new, (unseen_from, end)]
            subject = replace(subject, text=_without(subject.text, known))
            new, unseen = _look(subject, used)
            hits, unseen_from = hits | new, min(unseen_from, unseen)
        hits = {
            span: kind
            for span, kind in hits.items()
            if not ours or ours.isdisjoint(_names(whole.text[slice(*span)]))
        }
        rest = [(unseen_from, end)] if unseen_from < end else []
        return found([*hits, *rest], _told(hits, whole))

    return evaluate


def _names(text: str) -> set[str]:
    """How "ours" may name what was found: as it is, or by the domain of an address."""
    plain = _plain(text)
    return {plain, plain[plain.rindex("@") :]} if "@" in plain else {plain}


def _plain(text: str) -> str:
    """An address in lower case, a number by its digits and letters alone."""
    text = text.strip().casefold()
    return text if "@" in text else "".join(filter(str.isalnum, text))


def _look(subject: Subject, finders: Iterable[tuple[str, Finder]]) -> tuple[dict[Span, str], int]:
    """What is found, and from where on nobody looked any more; the text's length if nowhere."""
    hits: dict[Span, str] = {}
    unseen_from = end = len(subject.text)
    for view in views(subject):
        digits = Digits(view.text)
        for name, finder in finders:
            unseen_from = min(unseen_from, _note(hits, name, view, finder(digits), end))
    return hits, unseen_from


def _without(text: str, spans: Iterable[Span]) -> str:
    """The text with line ends, which join nothing, in the place of each span."""
    for start, end in spans:
        text = text[:start] + "\n" * (end - start) + text[end:]
    return text


def _note(hits: dict[Span, str], name: str, view: View, spans: Iterable[Span], length: int) -> int:
    """Keep what is found, but not a part of what is known already as something else.

    Returns from where on nobody looked any more, because there are so many; `length` if nowhere.
    """
    known = list(hits)
    for number, span in enumerate(spans):
        start, end = view.back(*span)
        if not any(start < after and before < end for before, after in known):
            hits[start, end] = name
        if number + 1 >= MOST:
            return end
    return length


def _told(hits: dict[Span, str], subject: Subject) -> str:
    parts = []
    for name, (one, several) in NAMES.items():
        spans = [span for span, kind in hits.items() if kind == name]
        if subject.calls:  # whose text says each argument twice, as JSON and plain
            number = len({subject.text[start:end] for start, end in spans})
        else:
            number = len(spans)
        if number:
            parts.append(counted(number, one, several))
    return ", ".join(parts)


# e-mail and IP addresses

_EMAIL = compiled(r"[\pL\pN._%+'&=~$*-]+@(?:[\pL\pN](?:[\pL\pN-]*[\pL\pN])?\.)+[\pL\pN-]{2,}")
_LONGEST_LOCAL = 64


def _emails(digits: Digits) -> Iterator[Span]:
    text = digits.source
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        start, end = match.span()
        # what is longer than a local part may be is an address with something before it
        yield max(start, text.index("@", start, end) - _LONGEST_LOCAL), end


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IP4 = compiled(rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b")
_IP6 = compiled(r"[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,8}", ignore_case=True)


def _ips(digits: Digits) -> Iterator[Span]:
    text = digits.source
    if text.count(".") > 2:
        for match in _IP4.finditer(text):
            start, end = match.span()
            longer = text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()
            if not longer and text[start - 1 : start] != ".":
                yield start, end
    if text.count(":") > 1:
        for match in _IP6.finditer(text):
            start, end = match.span()
            # "IP:2001:..." has a colon of its own before it
            start += match[0].startswith(":") and not match[0].startswith("::")
            if _is_ip6(text[start:end]) and not _touched(text, start, end):
                yield start, end


def _is_ip6(text: str) -> bool:
    # slices and names of programs ("[1::2]", "a::b") have short parts
    if not any(one.isdigit() for one in text) or max(map(len, text.split(":"))) < 3:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _touched(text: str, start: int, end: int) -> bool:
    """Whether it is a part of a longer word, or of a longer chain of numbers and colons."""
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    return (
        before[-1:].isalnum()
        or after[:1].isalnum()
        or (before[-1:] == ":" and before[:-1].isdigit())
        or (after[:1] == ":" and after[1:].isdigit())
    )


# cards

_CARDS = (
    # first and last beginning, and the lengths of such numbers
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("300", "305", (14, 16)),
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),
    ("6011", "6011", (16, 19)),
    ("60", "60", (16,)),
    ("62", "62", (16, 17, 18, 19)),
    ("644", "659", (16, 19)),
    ("81", "82", (16,)),
    ("2200", "2204", (16, 17, 18, 19)),
    ("508", "508", (16,)),
    ("50", "50", (16, 18, 19)),
    ("56", "58", (16, 18, 19)),
    ("63", "63", (16, 18, 19)),
    ("67", "67", (16, 18, 19)),
)
_CARD_LENGTHS = range(13, 20)
_CARD_GROUPS = 5


@cache
def _lengths_of_cards() -> np.ndarray:
    """Of every beginning of four digits, the lengths of cards as bits."""
    lengths = np.zeros(10_000, np.int64)
    for first, last, allowed in _CARDS:
        width = 10 ** (4 - len(first))
        for length in allowed:
            lengths[int(first) * width : (int(last) + 1) * width] |= 1 << length
    return lengths


def _cards(digits: Digits) -> Iterator[Span]:
    if digits.longest < _CARD_LENGTHS[0]:
        return
    after = 0
    for start, length in sorted(_card_places(digits), key=lambda place: (place[0], -place[1])):
        if start >= after and luhn.is_valid(digits.text[start : start + length]):
            after = start + length
            yield digits.span(start, length)


def _card_places(digits: Digits) -> Iterator[tuple[int, int]]:
    """Where a card's beginning, length and check digit agree."""
    values = digits.values
    first = values[:-3] * 1000 + values[1:-2] * 100 + values[2:-1] * 10 + values[3:]
    lengths = _lengths_of_cards()[first]
    doubled = np.array([0, 2, 4, 6, 8, 1, 3, 5, 7, 9])[values]
    even = np.arange(len(values)) % 2 == 0
    # sums up to each digit, if those at odd or at even places count double
    sums = [
        np.concatenate(([0], np.cumsum(np.where(even == at_even, doubled, values))))
        for at_even in (False, True)
    ]
    for length in _CARD_LENGTHS:
        starts = digits.windows(length, most_groups=_CARD_GROUPS, singly=True)
        starts = starts[lengths[starts] & (1 << length) != 0]
        # the second to last digit is the first that counts double
        at_even = (starts + length) % 2 == 0
        ends = starts + length
        odd_sum, even_sum = (one[ends] - one[starts] for one in sums)
        valid = np.where(at_even, even_sum, odd_sum) % 10 == 0
        for start in starts[valid]:
            yield int(start), length


# IBANs

_BETWEEN = r"[ \t.\-\x{2010}-\x{2014}]?"
_NOTHING_BETWEEN = dict.fromkeys(map(ord, " \t.-\u2010\u2011\u2012\u2013\u2014"))
_IBAN_COUNTRIES = (
    "AD AE AL AT AZ BA BE BG BH BR BY CH CR CY CZ DE DK DO EE EG ES FI FO FR GB GE GI GL GR GT HR "
    "HU IE IL IQ IS IT JO KW KZ LB LC LI LT LU LV LY MC MD ME MK MR MT MU NL NO PK PL PS PT QA RO "
    "RS SA SC SE SI SK SM ST SV TL TN TR UA VA VG XK"
)
_STRUCTURE = compiled(r"(\d+)!([nac])")
_CHARACTERS = {"n": r"\d", "a": "[A-Z]", "c": r"[A-Z\d]"}


@cache
def _iban_pattern() -> Any:
    """One pattern for the IBANs of all countries, from the registry of the library."""
    countries = "|".join(_iban_of(country) for country in _IBAN_COUNTRIES.split())
    return compiled(rf"\b(?:{countries})\b", ignore_case=True)


def _iban_of(country: str) -> str:
    structure = numdb.get("iban").info(country)[0][1]["bban"]
    body = "".join(
        f"(?:{_BETWEEN}{_CHARACTERS[part[2]]}){{{part[1]}}}"
        for part in _STRUCTURE.finditer(structure)
    )
    return rf"{country[0]}{_BETWEEN}{country[1]}{_BETWEEN}\d{_BETWEEN}\d{body}"


def _ibans(digits: Digits) -> Iterator[Span]:
    if len(digits.at) < 2:
        return
    for match in _iban_pattern().finditer(digits.source):
        number = match[0].translate(_NOTHING_BETWEEN).upper()
        if _remainder(number) == 1 and iban.is_valid(number):
            yield match.span()


_VALUES = str.maketrans({chr(ord("A") + one): str(one + 10) for one in range(26)})


def _remainder(number: str) -> int:
    """By 97, as the library has it, without its twenty microseconds a number."""
    return int((number[4:] + number[:4]).translate(_VALUES)) % 97


# national IDs

_ANY = r"[ .\-/]?"
NATIONAL_IDS: dict[str, tuple[tuple[str, str], ...]] = {
    # modules of the library, with what their numbers look like
    "BR": (("br.cpf", rf"\d{{3}}{_ANY}\d{{3}}{_ANY}\d{{3}}{_ANY}\d{{2}}"),),
    "DE": (("de.idnr", rf"\d{{2}}{_ANY}\d{{3}}{_ANY}\d{{3}}{_ANY}\d{{3}}"),),
    "ES": (
        ("es.dni", rf"\d{{2}}\.?\d{{3}}\.?\d{{3}}{_ANY}[A-Za-z]"),
        ("es.nie", rf"[XYZxyz]{_ANY}\d{{7}}{_ANY}[A-Za-z]"),
    ),
    "FR": (
        (
            "fr.nir",
            rf"[1-478]{_ANY}\d{{2}}{_ANY}\d{{2}}{_ANY}(?:\d{{2}}|2[ABab]){_ANY}\d{{3}}{_ANY}"
            rf"\d{{3}}{_ANY}\d{{2}}",
        ),
    ),
    "GB": (("gb.nhs", rf"\d{{3}}{_ANY}\d{{3}}{_ANY}\d{{4}}"),),
    "IN": (("in_.aadhaar", rf"[2-9]\d{{3}}{_ANY}\d{{4}}{_ANY}\d{{4}}"),),
    "IT": (
        (
            "it.codicefiscale",
            rf"[A-Za-z]{{3}}{_ANY}[A-Za-z]{{3}}{_ANY}[A-Za-z\d]{{5}}{_ANY}[A-Za-z][A-Za-z\d]{{3}}"
            r"[A-Za-z]",
        ),
    ),
    "NL": (("nl.bsn", rf"\d{{3,4}}{_ANY}\d{{2}}{_ANY}\d{{3}}|\d{{9}}"),),
    "PL": (("pl.pesel", r"\d{11}"),),
    "SE": (("se.personnummer", r"(?:\d{2})?\d{6}[-+]?\d{4}"),),
    # it has no check digit, so it counts in its usual form only
    "US": (("us.ssn", r"\d{3}[-\x{2010}-\x{2014}]\d{2}[-\x{2010}-\x{2014}]\d{4}"),),
}


def _national_ids(countries: list[str]) -> Finder:
    finders = [
        _national_id(module, pattern)
        for country in countries
        for module, pattern in NATIONAL_IDS[country]
    ]

    def find(digits: Digits) -> Iterator[Span]:
        if len(digits.at) >= _FEWEST_DIGITS:
            for one in finders:
                yield from one(digits)

    return find


def _national_id(module: str, pattern: str) -> Finder:
    is_valid = import_module(f"stdnum.{module}").is_valid
    expression = compiled(rf"\b(?:{pattern})\b")

    def find(digits: Digits) -> Iterator[Span]:
        for match in expression.finditer(digits.source):
            if is_valid(match[0]):
                yield match.span()

    return find


# phone numbers

_PHONE_LENGTHS = range(7, 18)
_PHONE_GROUPS = 7
_LONE = 4
_NORTH_AMERICA = 1
_NONE = "-"
_TYPES = (
    "fixed_line mobile toll_free premium_rate shared_cost personal_number voip pager uan voicemail"
)
_NOT_PHONES = compiled(
    r"(?:19|20)\d\d[-/. ]\d\d?[-/. ]\d\d?(?:\D|$)"  # 2030-01-31 12
    r"|\d\d?[-/.]\d\d?[-/.](?:19|20)\d\d(?:\D|$)"  # 31.01.2030 12
    r"|\d+\.\d+$"  # 123.4567890
    r"|\d{1,3}(?:\.\d{1,3}){3}$"  # 192.0.2.100
)


@cache
def _plans() -> dict[int, Any]:
    """By country code, what its national numbers look like, as the library has it."""
    return {
        code: compiled("|".join(sorted(_patterns_of(code, regions))))
        for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()
    }


def _patterns_of(code: int, regions: tuple[str, ...]) -> set[str]:
    patterns = set()
    for region in regions:
        metadata = (
            PhoneMetadata.metadata_for_nongeo_region(code)
            if region == "001"
            else PhoneMetadata.metadata_for_region(region)
        )
        described = (getattr(metadata, one) for one in _TYPES.split())
        patterns |= {one.national_number_pattern for one in described if one is not None}
    return {pattern for pattern in patterns if pattern}


class _Region:
    """How numbers are written within a country."""

    def __init__(self, region: str) -> None:
        metadata: Any = PhoneMetadata.metadata_for_region(region)
        code = phonenumbers.country_code_for_region(region)
        self._plan = _plans()[code]
        abroad = metadata.preferred_international_prefix or metadata.international_prefix or ""
        self.abroad = abroad if abroad.isdigit() else _NONE
        prefix = metadata.national_prefix_for_parsing
        # seventeen digits are all that these see, so `re` may
        self._prefix = re.compile(prefix) if prefix else None
        self._rule = (metadata.national_prefix_transform_rule or "").replace("\\1", "$1")
        self._bare = _bare(metadata)
        first = {one[0] for one in (metadata.national_prefix or "", self.abroad) if one}
        self.beginnings = [int(one) for one in "0123456789" if self._bare or one in first]
        # all ten digits can begin a number there, so its groups must tell
        self.cuts = {10: (3, 6), 11: (1, 4, 7)} if code == _NORTH_AMERICA else None

    def matches(self, digits: str) -> bool:
        """Whether digits can be a number as it is dialled in this country."""
        if digits.startswith(self.abroad):
            return _matches_abroad(digits[len(self.abroad) :])
        return any(self._plan.fullmatch(one) for one in self._national(digits))

    def begins(self, digits: str) -> bool:
        """Whether a number can begin with these digits, however long it is."""
        return bool(
            digits.startswith(self.abroad)
            or (self._bare and self._bare.match(digits))
            or (self._prefix and self._prefix.match(digits))
        )

    def _national(self, digits: str) -> Iterator[str]:
        if self._bare and self._bare.match(digits):
            yield digits
        match = self._prefix and self._prefix.match(digits)
        if match:
            rest = digits[match.end() :]
            yield rest
            if self._rule and match.lastindex:
                yield self._rule.replace("$1", match[1] or "") + rest


class _Nowhere:
    """No country: only numbers with a country code count."""

    beginnings: list[int] = []
    abroad = ""
    cuts = None

    def begins(self, digits: str) -> bool:
        return False

    def matches(self, digits: str) -> bool:
        return False


def _bare(metadata: Any) -> Any:
    """What numbers begin with that people write without the prefix of calls within the country.

    Others count with their 0 only, as in the library: too much looks like a number without it.
    """
    beginnings = [
        form.leading_digits_pattern[-1] if form.leading_digits_pattern else ""
        for form in metadata.number_format
        if not metadata.national_prefix
        or form.national_prefix_optional_when_formatting
        or (form.national_prefix_formatting_rule or "").strip("() ") in ("", "\\1")
    ]
    if not metadata.number_format:
        beginnings = [""]
    return re.compile("|".join(f"(?:{one})" for one in beginnings)) if beginnings else None


def _with_signs(text: str, begin: int, end: int) -> int:
    """Where a number begins with the + and the bracket that stand before its digits."""
    for _ in range(2):
        before = text[begin - 1 : begin]
        opened = before == "(" and ")" in text[begin:end]
        if opened or (before and before in "+\uff0b"):
            begin -= 1
    return begin


def _phones(region: str) -> Finder:
    _plans()
    home = _Region(region) if region else _Nowhere()

    def find(digits: Digits) -> Iterator[Span]:
        if digits.longest < _PHONE_LENGTHS[0]:
            return
        after = 0
        hopeless = -1
        plus = digits.after("+")
        known: dict[tuple[bool, str], bool] = {}
        for start, length in _phone_places(digits, plus, home):
            if start < after or start == hopeless:
                continue
            number, international = digits.text[start : start + length], bool(plus[start])
            if not international and not home.begins(number):
                hopeless = start
                continue
            key = international, number
            if key not in known:
                known[key] = _matches_abroad(number) if international else home.matches(number)
            begin, end = digits.span(start, length)
            if known[key] and _is_phone(digits.source, begin, end, international, region):
                after = start + length
                yield _with_signs(digits.source, begin, end), end

    return find


def _phone_places(
    digits: Digits, plus: np.ndarray, home: _Region | _Nowhere
) -> Iterator[tuple[int, int]]:
    """(first digit, how many) of all that may be a number, the longest of each place first."""
    likely = plus | np.isin(digits.values, home.beginnings)
    all_starts, all_lengths = [], []
    for length in _PHONE_LENGTHS:
        starts = digits.windows(length, most_groups=_PHONE_GROUPS)
        starts = digits.without_lone(starts[likely[starts]], length, _LONE)
        if home.cuts is not None:
            domestic = digits.grouped(starts, length, home.cuts.get(length, ()))
            abroad = starts[plus[starts] | digits.continue_with(starts, home.abroad)]
            starts = np.union1d(abroad, domestic) if length in home.cuts else abroad
        all_starts.append(starts)
        all_lengths.append(np.full(len(starts), length))
    starts, lengths = np.concatenate(all_starts), np.concatenate(all_lengths)
    order = np.lexsort((-lengths, starts))
    return zip(starts[order].tolist(), lengths[order].tolist(), strict=True)


def _matches_abroad(digits: str) -> bool:
    """Whether digits with a country code at their beginning can be a number."""
    for width in (1, 2, 3):
        plan = _plans().get(int(digits[:width] or 0))
        if plan is not None:
            rest = digits[width:]
            # +44 (0)20 is written as often as it is wrong
            return bool(plan.fullmatch(rest) or (rest[:1] == "0" and plan.fullmatch(rest[1:])))
    return False


def _is_phone(text: str, start: int, end: int, plus: bool, region: str) -> bool:
    if _touched(text, start, end) or (not plus and _NOT_PHONES.match(text[start:end])):
        return False
    try:
        number = phonenumbers.parse(("+" if plus else "") + text[start:end], region or None)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(number))


KIND = Kind(
    name="pii",
    title="Personal data",
    about="Finds e-mail addresses, phone numbers, cards, IBANs, national IDs and IP addresses.",
    fields=(
        Field(
            "find",
            "choices",
            "Find",
            "Numbers count when their check digits are right.",
            ["email", "phone", "card", "iban"],
            choices=tuple(NAMES),
        ),
        Field(
            "region",
            "text",
            "Country of phone numbers",
            "Two letters, such as US. Empty: only numbers with + and a country code are found.",
            "",
        ),
        Field(
            "countries",
            "choices",
            "Countries of national IDs",
            "Those of the US have no check digit, so they count in the form 000-00-0000 only.",
            [],
            choices=tuple(NATIONAL_IDS),
        ),
        Field(
            "ours",
            "lines",
            "Ours",
            "Addresses and numbers that are nobody's secret, one a line: help@example.com, or "
            "@example.com for every address of a domain.",
            [],
        ),
    ),
    build=build,
)
