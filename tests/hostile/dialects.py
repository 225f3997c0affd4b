"""How each dialect asks, written out at the socket, and lines of the data files."""

from itertools import count
from pathlib import Path

from tests.proxies.wire import Answer, head, send

HOST = "orders.example.com"
DIALECTS = ("traefik", "caddy", "haproxy", "nginx", "envoy")
_clients = (f"198.18.{number // 250}.{number % 250 + 1}" for number in count())


def lines(name: str) -> list[str]:
    """The lines of a data file, without comments."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


def raw(line: str) -> bytes:
    """A line's bytes: escapes stand for themselves."""
    return line.encode().decode("unicode_escape").encode("latin-1")


def new_client() -> str:
    """An address that has not failed yet."""
    return next(_clients)


def question(
    dialect: str,
    target: str | bytes,
    *headers: tuple[str, str],
    method: str = "GET",
    host: str = HOST,
    scheme: str = "http",
    client: str = "192.0.2.7",
) -> bytes:
    """The request by which a proxy of this dialect asks."""
    target = target.encode() if isinstance(target, str) else target
    common = [("X-Forwarded-For", client), *headers]
    if dialect == "envoy":
        return head(method, b"/forward-auth/envoy" + target, ("X-Forwarded-Proto", scheme), *common, host=host)
    if dialect == "nginx":
        url = ("X-Original-URL", f"{scheme}://{host}".encode() + target)
        return _head("/forward-auth/nginx", [("X-Original-Method", method), url, *common])
    forwarded = [("X-Forwarded-Method", method), ("X-Forwarded-Proto", scheme), ("X-Forwarded-Host", host)]
    return _head(f"/forward-auth/{dialect}", [*forwarded, ("X-Forwarded-Uri", target), *common])


def ask(port: int, dialect: str, target: str | bytes, *headers: tuple[str, str], **about: str) -> Answer:
    """The answer to such a question."""
    return send(port, question(dialect, target, *headers, **about))


def refused(answer: Answer, *reasons: str) -> bool:
    """Whether it is a refusal, for one of these reasons where it gives one. No answer at all is a refusal."""
    return answer.status != 200 and (not reasons or not answer.reason or answer.reason in reasons)


def _head(path: str, headers: list[tuple[str, str | bytes]]) -> bytes:
    written = ((name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers)
    return f"GET {path} HTTP/1.1\r\nHost: sidecar\r\n".encode() + b"".join(n + b": " + v + b"\r\n" for n, v in written) + b"\r\n"
