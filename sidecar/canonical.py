"""Canonical or refused: the one reading of a request that rules, logs and assertions share.

What two programs on the way could read differently is not repaired here but refused: a proxy, this check and the application
must not be made to see three paths. Percent-decoding happens exactly once. Sequences that a rule may open for its own paths
(`allow_ambiguous`) stay as written, in lower case, inside their segment and are named in `CanonicalRequest.exceptions`;
everything else that is ambiguous is refused at once. Sources: RFC 3986 (2.1, 3.2.2, 3.3, 5.2.4), RFC 9110 (9.1), RFC 5891.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote

from sidecar.contract import MAX_URL_BYTES, Reason
from sidecar.policy.model import CanonicalRequest

Address = IPv4Address | IPv6Address

SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""A WebSocket handshake is an HTTP request; Traefik writes `ws` and `wss` into `X-Forwarded-Proto`."""

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_PLAIN_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*")
_LONGEST_HOST: Final = 300
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_PLAIN_PATH: Final = re.compile(rb"/?|(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)+/?")
"""Paths that need no second look: nothing encoded, no `;`, no empty segment but a last one, no segment that begins with a dot."""

_FORBIDDEN: Final = re.compile(rb"[\x00-\x20\x7f#\\]")
"""Never in a path or query as sent: control bytes, space, a fragment, a backslash."""
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_OPAQUE: Final = re.compile(rb"(%(?:2[fF35]|5[cC]|3[bBfF])|;)")
"""What stays as written inside its segment. Splitting a segment by it leaves the rest at even places."""
_SEPARATORS: Final = re.compile(r"[/\\;?#]")
_MOST_SEGMENTS: Final = 256
_MOST_OPAQUE: Final = 128
"""Of opaque sequences in a path. Each, like each segment, is looked at by itself: without a bound 8 KiB could cost 60 ms."""
_DECODINGS: Final = 4
"""How often a segment may come out different when decoded again before it is refused (each costs time)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Refused(Exception):
    """The request has no single reading. `reason` is `malformed_request` or `ambiguous_request`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def canonical(method: str | bytes, scheme: str | bytes, host: str | bytes, target: bytes, client: Address) -> CanonicalRequest:
    """The canonical request, or `Refused`.

    `target` is path and query as the client sent them; `host` may carry a port, a trailing dot, capitals and U-labels.
    """
    named_method = _text(method)
    if _METHOD.fullmatch(named_method) is None:
        # "delete" is not DELETE to a rule, but may be to the application.
        raise Refused(Reason.MALFORMED_REQUEST)
    named_scheme = SCHEMES.get(_text(scheme).lower())
    if named_scheme is None:
        raise Refused(Reason.MALFORMED_REQUEST)
    path, segments, exceptions = _canonical_path(target)
    mapped = client.ipv4_mapped if isinstance(client, IPv6Address) else None
    return CanonicalRequest(named_method, named_scheme, canonical_host(host), path, segments, mapped or client, exceptions)


def canonical_url(method: str, url: str, client: Address) -> CanonicalRequest:
    """The canonical request of an absolute URL, such as `https://orders.example.com/orders/1?x=y`, or `Refused`."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if not separator:
        raise Refused(Reason.MALFORMED_REQUEST)
    try:
        target = (slash + path).encode()
    except UnicodeEncodeError:
        raise Refused(Reason.AMBIGUOUS_REQUEST) from None
    return canonical(method, scheme, host, target, client)


def canonical_host(host: str | bytes) -> str:
    """Lower case, A-labels, no port, no trailing dot; an IPv6 address in brackets, shortened. Raises `Refused`."""
    name = _text(host)
    if len(name) > _LONGEST_HOST:
        raise Refused(Reason.MALFORMED_REQUEST)
    if _PLAIN_HOST.fullmatch(name) is not None and "--" not in name and not name.endswith("-") and "-." not in name:
        return name
    if name.startswith("["):
        return _ipv6_host(name)
    name, colon, port = name.partition(":")
    _check_port(colon, port)
    name = name.removesuffix(".")
    name = name.lower() if name.isascii() else _a_labels(name)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):  # noqa: PLR2004 - RFC 1035, 2.3.4
        raise Refused(Reason.MALFORMED_REQUEST)
    return name


def _text(value: str | bytes) -> str:
    """The text of a header value. Raises `Refused` where it is not UTF-8."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused(Reason.MALFORMED_REQUEST) from None


def _check_port(colon: str, port: str) -> None:
    """Refuse a colon without a port number behind it, and a port that is none."""
    if colon and (_PORT.fullmatch(port) is None or int(port) > 65535):  # noqa: PLR2004 - the last port
        raise Refused(Reason.MALFORMED_REQUEST)


def _ipv6_host(name: str) -> str:
    """`[2001:DB8:0::1]:443` as `[2001:db8::1]`. Zones are refused."""
    address, bracket, rest = name[1:].partition("]")
    _check_port(rest, rest.removeprefix(":") if rest.startswith(":") else "")
    if not bracket or "%" in address:
        raise Refused(Reason.MALFORMED_REQUEST)
    try:
        return f"[{IPv6Address(address).compressed}]"
    except AddressValueError:
        raise Refused(Reason.MALFORMED_REQUEST) from None


def _a_labels(name: str) -> str:
    """U-labels as A-labels. A name that does not come back the same (full-width letters, sharp s) has two readings: refused."""
    lowered = name.lower()
    try:
        encoded = lowered.encode("idna")
        if encoded.decode("idna") != lowered:
            raise Refused(Reason.AMBIGUOUS_REQUEST)
    except UnicodeError:
        raise Refused(Reason.MALFORMED_REQUEST) from None
    return encoded.decode("ascii")


def _canonical_path(target: bytes) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """The path as sent, its segments decoded once, and the ambiguous sequences that stayed. Raises `Refused`.

    `/` has no segments; a trailing slash is a last, empty segment.
    """
    if len(target) > MAX_URL_BYTES:
        raise Refused(Reason.MALFORMED_REQUEST)
    if not target.startswith(b"/") or _FORBIDDEN.search(target) is not None:
        raise Refused(Reason.AMBIGUOUS_REQUEST)
    raw = target.partition(b"?")[0]
    if _PLAIN_PATH.fullmatch(raw) is not None:
        path = raw.decode("ascii")
        return path, tuple(path[1:].split("/")) if path != "/" else (), frozenset()
    if raw.count(b"/") > _MOST_SEGMENTS or len(_OPAQUE.findall(raw)) > _MOST_OPAQUE:
        raise Refused(Reason.MALFORMED_REQUEST)
    if _BAD_ESCAPE.search(raw) is not None:
        raise Refused(Reason.AMBIGUOUS_REQUEST)
    exceptions: set[str] = {"//"} if b"//" in raw else set()
    segments = tuple(_segment(part, exceptions) for part in raw[1:].split(b"/"))
    return raw.decode(), segments, frozenset(exceptions)


def _segment(raw: bytes, exceptions: set[str]) -> str:
    """One segment decoded once; adds what stayed opaque to `exceptions`. Raises `Refused`."""
    parts = _OPAQUE.split(raw)
    opaque = [part.decode("ascii").lower() for part in parts[1::2]]
    try:
        plain = [_decoded(part) for part in parts[0::2]]
    except UnicodeDecodeError:
        raise Refused(Reason.AMBIGUOUS_REQUEST) from None
    segment = plain[0] + "".join(sequence + text for sequence, text in zip(opaque, plain[1:], strict=True))
    _refuse_hidden(segment)
    exceptions.update(opaque)
    return segment


def _decoded(raw: bytes) -> str:
    """Percent-decoded once. Raises `UnicodeDecodeError` where that is not UTF-8."""
    return unquote(raw.decode(), errors="strict") if b"%" in raw else raw.decode()


def _refuse_hidden(segment: str) -> None:
    """Refuse what no rule can open: control characters and dot segments, however often encoded and whatever stands beside them.

    An application that decodes twice, cuts `;parameters` or folds full-width dots must not find a `..` that no rule saw.
    """
    for _ in range(_DECODINGS):
        folded = segment if segment.isascii() else normalize("NFKC", segment)
        if _CONTROL.search(segment) is not None or any(part.strip() in {".", ".."} for part in _SEPARATORS.split(folded)):
            raise Refused(Reason.AMBIGUOUS_REQUEST)
        decoded = unquote(segment)
        if decoded == segment:
            return
        segment = decoded
    raise Refused(Reason.AMBIGUOUS_REQUEST)


def is_local(host: str) -> bool:
    """Whether a host of a URL is this machine for whoever asks: `localhost`, a name below it, a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rpartition(".")[2] == "localhost"
