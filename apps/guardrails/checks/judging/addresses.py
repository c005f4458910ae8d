"""Where judges may be: the operator's list of addresses, and connections to nowhere else.

A name is looked up once a connection. What it stands for is checked, and the connection is made
to exactly that address, so that a second look-up cannot lead elsewhere; TLS still verifies the
name.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import httpcore
import httpx

URLS = "PARAPET_JUDGE_URLS"
_PLAIN = re.compile(r"https?://[A-Za-z0-9._\-\[\]:]+(/[A-Za-z0-9._~\-/]*)?", re.I)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "64:ff9b:1::/48", "fec0::/10")))
_lookups = ThreadPoolExecutor(max_workers=8, thread_name_prefix="judge-names")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
deadline: ContextVar[float] = ContextVar("deadline")
"""When the call of this thread must be over, by time.monotonic."""


class AddressRefused(Exception):
    """A name stands for an address that judges may not be at."""


@dataclass(frozen=True)
class Place:
    """An address on the operator's list, or one under it.

    Args:
        private: whether it may be inside of the host's own networks.
        key: the name of the key that goes there; "" for none.
    """

    scheme: str
    host: str
    port: int
    path: str
    private: bool = False
    key: str = ""

    def holds(self, other: Place) -> bool:
        mine, theirs = (one.path.rstrip("/") + "/" for one in (self, other))
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and theirs.startswith(mine)


def judge_urls() -> tuple[str, ...]:
    """The allow-list from the environment: base URLs, each maybe with words behind it.

    `private`: it may be inside of the host's own networks. `key=NAME`: the key of this name, and
    no other, goes there.
    """
    entries = re.split(r"[,\n]", os.environ.get(URLS, ""))
    return tuple(entry.strip() for entry in entries if entry.strip())


def address_allowed(url: str, allowed: Collection[str]) -> str:
    """Why a judge may not be at this address; "" when it may."""
    try:
        place = _place(url)
    except ValueError as error:
        return str(error)
    if any(one.holds(place) for one in _places(allowed)):
        return ""
    return f"Not on the list of judges ({URLS}) of whoever runs this host."


def private_allowed(url: str, allowed: Collection[str]) -> bool:
    """Whether the list means an address inside of the host's own networks by this one."""
    place = _place(url)
    return any(one.private for one in _places(allowed) if one.holds(place))


def keys_of(url: str, allowed: Collection[str]) -> set[str]:
    """The names of the keys that go to this address."""
    place = _place(url)
    return {one.key for one in _places(allowed) if one.key and one.holds(place)}


def refused(address: str, *, private: bool) -> bool:
    """Whether no connection may go to an IP address.

    Args:
        private: private and loopback addresses are meant. Link-local ones never are: clouds give
            out their hosts' credentials there.
    """
    return any(_refused(one, private) for one in _meant(ipaddress.ip_address(address)))


def _refused(one: Address, private: bool) -> bool:
    if one.is_multicast or one.is_unspecified or one.is_link_local:
        return True
    # loopback before reserved, for ::1 is both
    if one.is_loopback:
        return not private
    if one.is_reserved or any(one in network for network in _NEVER):
        return True
    return not (one.is_global or private)


def _meant(one: Address) -> Iterable[Address]:
    """The addresses that an address leads to: those inside of it where it is a translated one."""
    if isinstance(one, ipaddress.IPv4Address) or one.is_loopback or one.is_unspecified:
        return (one,)
    if one.ipv4_mapped:
        return (one.ipv4_mapped,)
    if one.sixtofour:
        return (one.sixtofour,)
    if one.teredo:
        return one.teredo
    if one in _NAT64 or int(one) < 2**32:
        return (ipaddress.IPv4Address(int(one) & 0xFFFFFFFF),)
    return (one,)


def _places(allowed: Iterable[str]) -> list[Place]:
    """What of the list can be understood; what cannot allows nothing."""
    places = []
    for entry in allowed:
        url, *words = entry.split()
        try:
            place = _place(url)
        except ValueError:
            continue
        key = next((word.removeprefix("key=") for word in words if word.startswith("key=")), "")
        private = "private" in words or _names_private(place.host)
        places.append(replace(place, private=private, key=key))
    return places


def _names_private(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        one = ipaddress.ip_address(host)
    except ValueError:
        return False
    return one.is_private or one.is_loopback


def _place(url: str) -> Place:
    """The parts of a plain address; one that two programs may read differently is refused."""
    if not _PLAIN.fullmatch(url):
        raise ValueError("Give a plain http or https address: host, port and path, nothing else.")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("This is no address.") from None
    if any(part in (".", "..") for part in url.split("/")) or not parsed.host:
        raise ValueError("Give the address without dots between slashes.")
    port = parsed.port or {"http": 80, "https": 443}[parsed.scheme]
    return Place(parsed.scheme, parsed.host.rstrip("."), port, parsed.path)


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses a name stands for."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def time_left() -> float:
    """Seconds until this call must be over.

    Raises:
        httpcore.ReadTimeout: it should be over already.
    """
    left = deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


class Pinned(httpcore.NetworkBackend):
    """Connects to checked addresses only, and keeps every step within the call's deadline."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError()
        for address in self._checked(host, port):
            try:
                return _InTime(self._sockets.connect_tcp(address, port, time_left()))
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    def _checked(self, host: str, port: int) -> list[str]:
        lookup: Future[list[str]] = _lookups.submit(resolve, host, port)
        try:
            addresses = lookup.result(timeout=time_left())
        except TooLate:
            lookup.cancel()
            raise httpcore.ConnectTimeout from None
        except OSError:
            raise httpcore.ConnectError from None
        # one of them is enough: who answers so means no good
        if any(refused(address, private=self._private) for address in addresses):
            raise AddressRefused
        return addresses


class _InTime(httpcore.NetworkStream):
    """A connection whose every step may only take what is left of the call's time.

    A limit on each single read would never end a body that comes byte by byte.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, time_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, time_left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _InTime(self._stream.start_tls(ssl_context, server_hostname, time_left()))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
