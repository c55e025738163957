"""Addresses that a secret may be sent to."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def url_problem(url: str, scheme: str) -> str:
    """Why an address is not taken, as the end of a sentence; empty when it is. Without encryption only this machine is
    spoken to, because a token goes there."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in (scheme, scheme.removesuffix("s")) or not host or parts.username or not url.isprintable():
        return f"is not of the form {scheme}://HOST/..."
    if parts.scheme != scheme and host not in LOOPBACK:
        return f"would send the token unencrypted: write {scheme}://"
    return ""
