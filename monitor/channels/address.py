"""Which addresses are called: a URL in the configuration may be wrong, and a name may point anywhere.

Link-local and cloud metadata addresses never are, loopback and private ones only with `allow_private`, and without
encryption only this machine, or any with `allow_http`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, Literal
from urllib.parse import urlsplit

_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
"""Where clouds tell machines their secrets; not all of them are link-local."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

Reach = Literal["", "public", "private", "loopback", "never"]


def reach(address: str) -> Reach:
    """How far an IP address reaches, "never" for what is never called, "" for what is no address.

    >>> reach("9.9.9.9"), reach("10.0.0.7"), reach("::1"), reach("::ffff:169.254.169.254"), reach("example.org")
    ('public', 'private', 'loopback', 'never', '')
    """
    try:
        ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return ""
    if ip.is_link_local or ip in _METADATA or ip.is_multicast or ip.is_unspecified:
        return "never"
    if ip.is_loopback:
        return "loopback"
    return "public" if ip.is_global else "private"


def _plain(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address inside an IPv6 one that only wraps it."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or ip


def forbidden(host: str, found: Iterable[str], allow_private: bool) -> str:
    """Why a host with these addresses is not called, or ""."""
    for address in found:
        where = host if host == address else f"{host} is {address}, which"
        match reach(address):
            case "never" | "":
                return f"{where} is link-local or a cloud's metadata address and never called"
            case "loopback" | "private" if not allow_private:
                return f"{where} is not a public address; set allow_private = true if it is meant"
    return ""


def checked_url(url: str, allow_http: bool, allow_private: bool) -> str:
    """The URL itself, or ValueError: https wanted; http only to this machine, or anywhere with `allow_http`."""
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("not a URL of the form https://host/path")
    _ = parts.port  # a ValueError of its own where it is no number
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with user:password@ would show up in logs; leave that part out")
    literal = "127.0.0.1" if host == "localhost" else host
    if parts.scheme == "http" and not allow_http and reach(literal) != "loopback":
        raise ValueError(f"http to {host} can be read and changed on the way; use https or set allow_http = true")
    if why := forbidden(host, [literal] if reach(literal) else [], allow_private):
        raise ValueError(why)
    return url
