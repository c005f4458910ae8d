"""Web addresses, with a scheme or bare, against a list of domains."""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import idna

from apps.guardrails.checks.candidates import MOST, compiled, counted, views
from apps.guardrails.checks.interface import (
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    found,
    merged,
    wrong,
)

MODES = ("all", "only", "never")

# browsers take the first four for a full stop; the others are written to disarm an address
_DOT = r"(?:[.\x{3002}\x{ff0e}\x{ff61}]|[\[({](?:\.|dot)[\])}])"
_CHARACTER = r"(?:[\pL\pN\pM_-]|%[0-9a-f]{2})"
_HOST = compiled(rf"{_CHARACTER}+(?:{_DOT}{_CHARACTER}+)*{_DOT}?", ignore_case=True)
_BARE = compiled(rf"{_CHARACTER}+(?:{_DOT}{_CHARACTER}+)+", ignore_case=True)
_DOTS = compiled(_DOT, ignore_case=True)
# browsers need fewer slashes for http, and take others for them
_SCHEME = compiled(
    r"(?:\b|_)(?:(?:h(?:tt|xx)ps?|wss?|s?ftp)\[?:\]?[\\/]*|[a-z][a-z0-9+.-]{1,20}\[?:\]?[\\/]{2})"
    # of a link or a picture, which needs none
    r"|(?:[(\[\"'=<]|\]:)[ \t]*[\\/]{2,}",
    ignore_case=True,
)
_IP6 = compiled(r"\[[0-9a-f:.]{2,45}(?:%[\w.-]*)?\]", ignore_case=True)
_PORT = compiled(r":\d{1,5}")
_AUTHORITY = compiled(r"[^\s/?#\\<>\"'`]*")
# quotes in a name before the @, as browsers take them; not the end of what is quoted
_QUOTED_NAME = compiled(r"(?:[^\s/?#\\<>\"'`]|[\"'`]+[^\s/?#\\<>\"'`,:;)\]}])*[\"'`]*@")
_REST = compiled(r"[^\s<>\"'`]*")
_LEGACY_IP4 = compiled(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}", ignore_case=True)
_LONGEST_HOST = 1_000
_PATHS = ("/", "?", "#", "\\")
_SLASHES = "/\\@"
_OPENING = "([\"'=<]"
_BEGINNINGS = (":", "//", "\\\\", "/\\", "\\/")
_QUOTES = ("'", '"', "`")
_TRAILING = ".,;:!?)]}…»“”’"

_TOP_LEVEL = (
    "com net org info biz name pro int edu gov mil arpa onion aero asia cat coop jobs mobi "
    "museum post tel travel xxx "
    # of countries
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br "
    "bs bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz "
    "ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw "
    "gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw "
    "ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu "
    "mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt "
    "pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc "
    "td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws "
    "ye yt za zm zw "
    # newer ones that are much used, or much misused
    "academy accountant adult agency app art auction audio autos band bank bar beauty best bet "
    "bid bike blog boats bond boutique build business buzz bzh cab cam camera camp capital "
    "cards care career careers casa cash casino center ceo cfd chat cheap church city click "
    "clinic cloud club coach codes coffee college community company computer contact cool "
    "country coupons courses credit creditcard cricket cruises cyou dance date dating deals "
    "degree delivery dentist design dev diet digital direct directory discount doctor dog "
    "domains download earth education email energy engineer engineering estate eus events "
    "exchange expert express fail faith family fan farm fashion finance financial fit fitness "
    "flights foundation fun fund futbol fyi gal gallery game games garden gay gift gifts gives "
    "glass global gmbh gold golf graphics gratis green group guide guru hair haus health help "
    "homes host hosting hotel house how icu immo ink institute insurance international "
    "investments jetzt juegos kim kitchen land law lawyer legal life lighting limited link live "
    "llc loan loans lol london lotto love ltd luxury makeup management market marketing mba "
    "media men mom money monster mov movie network news nexus ngo ninja nyc observer one online "
    "page paris partners parts party pet photo photography photos pics pictures pizza place "
    "plus poker porn press productions properties property pub quest racing realty recipes red "
    "rehab reise rent rentals repair report republican rest restaurant review reviews rich rip "
    "rocks run sale salon sbs school science scot security services sex sexy shop shopping show "
    "site ski skin soccer social software solar solutions space sport store stream studio study "
    "style sucks supply support surf swiss systems tattoo tax taxi team tech technology tennis "
    "theater tickets tips tires today tokyo tools top tours town toys trade trading training "
    "tube university uno vacations vegas ventures vet video vin vip vision vote voyage wang "
    "watch web webcam website wedding wiki win wine work works world wtf xyz yachts yoga zip "
    "zone "
    # in other scripts
    "рф бел укр срб мкд мон қаз бг ею москва онлайн сайт дети рус орг ком 中国 中國 香港 台湾 台灣 "
    "澳門 新加坡 公司 网络 網絡 在线 中文网 网址 商标 商城 集团 我爱你 한국 닷컴 コム みんな भारत "
    "বাংলা ভারত ไทย გე հայ ελ ευ ישראל קום السعودية امارات مصر ایران الجزائر المغرب تونس قطر "
    "سورية عمان فلسطين موقع شبكة"
)
TOP_LEVEL = frozenset(_TOP_LEVEL.split())
"""Bare domains count by these; behind a scheme or www any domain does."""

# "script.py" and "notes.md" are files as long as nothing else speaks for an address
_FILES = frozenset({"cc", "md", "ml", "mk", "mov", "pl", "ps", "py", "rs", "sh", "so", "zip"})
# "the end.In the beginning": a missing space
_WORDS = frozenset(
    {"am", "as", "at", "be", "by", "do", "in", "is", "it", "me", "my", "no", "so", "to", "us"}
)


@dataclass(frozen=True)
class Address:
    """What was found.

    Args:
        span: where it stands.
        host: in its one form.
        sure: it is an address, and not only two words with a full stop between.
        path: where its path begins, or it ends.
    """

    span: Span
    host: str
    sure: bool
    path: int = 0


def build(settings: Mapping[str, Any]) -> Evaluate:
    mode = settings["mode"]
    domains = frozenset(_domain(line) for line in settings["domains"] if line.strip())
    if mode == "all" and domains:
        raise wrong("domains", "Leave this empty, or choose whether only or never these.")
    if mode != "all" and not domains:
        raise wrong("domains", "Give at least one domain, such as example.com.")

    def counts(address: Address) -> bool:
        if mode == "never":
            return within(address.host, domains)
        return address.sure and (mode == "all" or not within(address.host, domains))

    def evaluate(subject: Subject) -> Found:
        spans: list[Span] = []
        for view in views(subject):
            spans += [view.back(*span) for span in _counted(view.text, counts)]
        what = counted(len(merged(spans)), "web address", "web addresses")
        return found(spans, what if mode == "all" else f"{what} not allowed")

    return evaluate


def _counted(text: str, counts: Callable[[Address], bool]) -> list[Span]:
    """Where the addresses stand that count; all the rest once there are very many."""
    known: list[Address] = []
    spans: list[Span] = []
    end = len(text)
    for look in (_schemed(text), _bare(text, known)):
        hits = 0
        for address in look:
            known.append(address)
            if address.span[0] >= end:
                break
            if counts(address):
                spans.append(address.span)
                hits += 1
            if hits == MOST:
                end = min(end, address.span[1])
                break
    return [*spans, (end, len(text))] if end < len(text) else spans


def _domain(line: str) -> str:
    given = line.strip().removeprefix("*.")
    host = canonical(given)
    if not host or any(one in given for one in "/:@ ") or ("." not in host and host != "localhost"):
        raise wrong("domains", "Give domains alone, one a line, such as example.com.")
    return host


def within(host: str, domains: frozenset[str]) -> bool:
    """Whether a host is one of the domains, or below one."""
    if host in domains:
        return True
    at = host.find(".")
    while at >= 0:
        if host[at + 1 :] in domains:
            return True
        at = host.find(".", at + 1)
    return False


@lru_cache(maxsize=10_000)
def canonical(host: str) -> str:
    """The one form of a host: decoded, lower-case, in ASCII, without its last dot; "" if none."""
    host = host[-_LONGEST_HOST:]  # what is longer is none, but its end may look like one
    if host.startswith("["):
        return _ip6(host.strip("[]").partition("%")[0])
    host = unicodedata.normalize("NFKC", unquote(host, errors="replace"))
    host = _DOTS.sub(".", host).strip(".").lower()
    if _LEGACY_IP4.fullmatch(host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return host
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return host


def _ip6(text: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return ""


def _schemed(text: str) -> Iterator[Address]:
    # runs of characters have one end, wherever within them one begins to look
    authority_until = path_until = path_end = -1
    for match in _SCHEME.finditer(text) if any(one in text for one in _BEGINNINGS) else ():
        start, at = match.span()
        if match[0][0] in _OPENING:
            if text[at : at + 1] in _OPENING:
                continue
            start = at - len(match[0].lstrip(_OPENING + ":] \t"))
        if at > authority_until:
            authority_until = at + len(_first(_AUTHORITY, text, at))
            if text[authority_until : authority_until + 1] in _QUOTES:
                authority_until = max(authority_until, at + len(_first(_QUOTED_NAME, text, at)))
        # what stands before the last @ is a name, however much it looks like a host
        host_at = max(at, text.rfind("@", at, authority_until) + 1)
        host = _first(_IP6 if text[host_at : host_at + 1] == "[" else _HOST, text, host_at)
        name = canonical(host) if host else ""
        # "http:error" is in every other log
        schemeless = match[0][0] in _OPENING or match[0][-1] not in "/\\"
        if not name or (schemeless and "." not in name):
            continue
        authority = end = _port(text, host_at + len(host))
        if text[end : end + 1] in _PATHS:
            if end > path_until:
                path_until = end + len(_first(_REST, text, end))
                path_end = _trimmed(text, end, path_until)
            end = max(end, path_end)
        yield Address((start, _trimmed(text, start, end)), name, True, authority)


def _port(text: str, at: int) -> int:
    """The end of a port that is given here."""
    return at + len(_first(_PORT, text, at)) if text[at : at + 1] == ":" else at


def _first(pattern: Any, text: str, at: int) -> str:
    """What a pattern matches right here."""
    match = pattern.match(text[at : at + _LONGEST_HOST])
    if match and match.end() == _LONGEST_HOST:  # seldom, so nearly all is read but once
        match = pattern.match(text[at:])
    return match[0] if match else ""


def _trimmed(text: str, start: int, end: int) -> int:
    """The end without the punctuation of a sentence around it."""
    while end > start and text[end - 1] in _TRAILING:
        end -= 1
    return end


def _bare(text: str, schemed: list[Address]) -> Iterator[Address]:
    known = iter([*schemed])
    around = next(known, None)
    path_until = path_end = -1
    for match in _BARE.finditer(text):
        start, end = match.span()
        while around and around.span[1] <= start:
            around = next(known, None)
        # an address has a host already, and files and folders in it are none
        if around and around.span[0] < end and (start < around.path or text[start - 1] in _SLASHES):
            continue
        address = _judged(text, start, end)
        if address is None:
            continue
        if address.path < address.span[1]:
            if address.path > path_until:
                path_until = address.path + len(_first(_REST, text, address.path))
                path_end = _trimmed(text, address.path, path_until)
            address = replace(address, span=(start, max(address.path, path_end)))
        yield address


def _judged(text: str, start: int, end: int) -> Address | None:
    written = text[start:end]
    name = canonical(written)
    after = _port(text, end)
    has_path = text[after : after + 1] in _PATHS
    more = has_path or after > end
    called = text[end : end + 1] == "("  # a function
    # before an @ it is a person's name; behind one, without a path, the address of a person
    if not name or text[end : end + 1] == "@" or (text[start - 1 : start] == "@" and not more):
        return None
    return Address((start, after + has_path), name, _is_sure(name, written, more, called), after)


def _is_sure(host: str, written: str, more: bool, called: bool) -> bool:
    labels = host.split(".")
    if labels[-1].isdecimal():
        # 3.14 can mean a host too, but only browsers know
        four = len(labels) == 4 and all(one.isdecimal() and int(one) < 256 for one in labels)
        return four and len(written) >= len(host)
    if labels[0] == "www" and len(labels) > 2:
        return True
    top = labels[-1]
    if top.startswith("xn--"):
        try:
            top = idna.decode(top)
        except (idna.IDNAError, UnicodeError):
            return True
    if top not in TOP_LEVEL:
        return False
    if more or len(labels) > 2:
        return True
    last = written.rpartition(".")[2]
    return not called and top not in _FILES and not (top in _WORDS and last.istitle())


KIND = Kind(
    name="urls",
    title="Web addresses",
    about="Finds web addresses: all, all but those of some domains, or those of some domains.",
    fields=(
        Field(
            "mode",
            "choice",
            "Find",
            "all: every address. only: every address but of these domains. never: of these alone.",
            "all",
            choices=MODES,
        ),
        Field(
            "domains",
            "lines",
            "Domains",
            "One a line; those below them are included. Bare domains count by the common endings, "
            "and names of files (notes.md) only if they are listed. E-mail addresses do not count.",
            [],
        ),
    ),
    build=build,
)
