"""Where somebody may be sent back to after a login. The one place where such an address is read.

An address is read by one grammar, written anew from what was read, and taken only where both are the same text: no two programs
can find two hosts in it. Whether the host is ours to send somebody to is then asked of the applications.
Open redirects of others: GHSA-qqxw-m5fj-f7gv, GHSA-j7px-6hwj-hpjg, GHSA-5m6c-jp6f-2vcv.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Final
from urllib.parse import unquote

from control_plane.applications import service as applications
from control_plane.changes import Work
from sidecar.canonical import Refused, canonical_host
from sidecar.contract import LOGIN_PATH

LONGEST: Final = 4096
"""Characters of an address. Login hosts see them twice encoded, and browsers keep no larger cookie."""

SIGNED_IN: Final = LOGIN_PATH + "signed-in"
"""The one path of the sidecar's that somebody may come back to: it says that the tab can be closed. The others send elsewhere."""

# Printable ASCII without space, backslash and fragment. A browser sends nothing else in a path or a query.
_TARGET: Final = re.compile(r"/(?!/)[!-\"$-\[\]-~]*")
_ADDRESS: Final = re.compile(r"(https?)://(\[[0-9a-f:]{2,45}\]|[a-z0-9._-]{1,253})(?::([1-9][0-9]{0,4}))?(/[!-\"$-\[\]-~]*)?")
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """An address on a host. `host`: as checks know it; `port`: digits or nothing; `target`: path and query as written."""

    scheme: str
    host: str
    port: str
    target: str

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.host}{':' if self.port else ''}{self.port}"

    def __str__(self) -> str:
        return self.origin + self.target


def parse(text: str, *, https_only: bool) -> ReturnAddress | None:
    """The address that `text` is, None where it is none or leaves room for a second reading. Its host may be anybody's."""
    match = _ADDRESS.fullmatch(text) if len(text) <= LONGEST else None
    if match is None or (https_only and match[1] != "https"):
        return None
    address = ReturnAddress(match[1], match[2], match[3] or "", match[4] or "/")
    if not _one_host(address.host) or int(address.port or 1) > _LAST_PORT or local_target(address.target) is None:
        return None
    return address if text in {str(address), address.origin} else None


def local_target(text: str) -> str | None:
    """The path and query that `text` is, None where a browser could be led elsewhere by it, or round in a circle."""
    if len(text) > LONGEST or _TARGET.fullmatch(text) is None:
        return None
    path = text.partition("?")[0]
    decoded = unquote(path, "latin-1")
    # What a browser would shorten, or somebody on the way would decode, could become the start of another name.
    if decoded[1:2] in {"/", "\\"} or any(segment in {".", ".."} for segment in decoded.split("/")):
        return None
    return None if decoded.startswith(LOGIN_PATH.rstrip("/")) and path != SIGNED_IN else text


async def known(work: Work, address: ReturnAddress) -> bool:
    """Whether the host is an application's: by its name, or by a wildcard for its first label."""
    return await applications.serves(work, address.host)


def _one_host(host: str) -> bool:
    """Whether everybody who reads `host` finds the same one: names in their only spelling, no numbers that are addresses."""
    try:
        if canonical_host(host) != host:
            return False
    except Refused:
        return False
    last = host.rpartition(".")[2]
    if host.startswith("[") or not (last.isdigit() or last.startswith("0x")):
        # A browser reads A-labels again, and refuses or rewrites those that stand for nothing.
        return not any(label.startswith("xn--") and not _a_label(label) for label in host.split("."))
    try:
        return str(IPv4Address(host)) == host
    except AddressValueError:
        return False


def _a_label(label: str) -> bool:
    """Whether an A-label is that of a name (RFC 5891 section 4.2)."""
    try:
        return label.encode("ascii").decode("idna").encode("idna") == label.encode("ascii")
    except UnicodeError:
        return False
