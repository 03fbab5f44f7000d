"""URLs that people write into plans."""

from __future__ import annotations

import ipaddress
import urllib.parse


def split_http_url(url: str) -> urllib.parse.SplitResult | None:
    """The parts of an http or https URL with a host and a sound port, or None."""
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.port is None or parts.port > 0
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or not sound:
        return None
    return parts


def is_loopback(url: str | None) -> bool:
    """Whether a URL names this very machine."""
    parts = split_http_url(url or "")
    if parts is None or parts.hostname is None:
        return False
    if parts.hostname == "localhost" or parts.hostname.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
