"""Refusals as pages for people: what was refused, why, by which reference, and what can be done about it.

A page is one answer and asks for nothing more: its style sheet is in it, named in the policy by its hash, and there is no script.
It looks like the login's pages (control_plane/login/assets), which it cannot share: the sidecar knows nothing of them.
"""

import re
import tomllib
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from sidecar.contract import Reason

_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "page.css").read_text("utf-8")
_PAGE: Final = Template((_HERE / "page.html").read_text("utf-8"))
_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

MESSAGES: Final = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in sorted((_HERE / "messages").glob("*.toml"))}
"""What pages say, by language, kind of page and part of it."""
DEFAULT: Final = "en"
"""The language of whoever asks for none that is here."""
_VALUE: Final = re.compile(r"\$([a-z_]+)")
_RANGE: Final = re.compile(r"([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9-]{1,40})?[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
_MOST_RANGES: Final = 16

KINDS: Final = {
    Reason.POLICY_DENIED: "denied",
    Reason.ORG_REQUIRED: "org_required",
    Reason.NOT_A_MEMBER: "not_a_member",
    Reason.ORG_SUSPENDED: "org_suspended",
    Reason.PROFILE_SUSPENDED: "profile_suspended",
    Reason.MISSING_CREDENTIALS: "signed_out",
    Reason.INVALID_TOKEN: "signed_out",
    Reason.EXPIRED_TOKEN: "signed_out",
    Reason.REVOKED_SESSION: "signed_out",
    Reason.INVALID_API_KEY: "signed_out",
    Reason.EXPIRED_API_KEY: "signed_out",
    Reason.STEP_UP_REQUIRED: "step_up",
    Reason.TOO_MANY_FAILURES: "too_many_failures",
    Reason.NOT_READY: "unavailable",
    Reason.STALE: "unavailable",
    Reason.INTERNAL_ERROR: "unavailable",
}
"""Which page a refusal is told by. Those that nobody meets who only reads and clicks have none."""
_WAITING: Final = frozenset({"signed_out", "step_up", "too_many_failures", "unavailable"})
_STOP: Final = '<circle cx="12" cy="12" r="9"/><path d="M6 6l12 12"/>'
_CLOCK: Final = '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3.5 2"/>'


class Way(NamedTuple):
    """Something that can be done. `words`: a key of the messages' `common`; `aside`: in a new tab, this one is needed still."""

    words: str
    href: str
    aside: bool = False


def page(kind: str, language: str, *, reason: str, request_id: str, host: str, ways: Sequence[Way]) -> bytes:
    """The page of one refusal. `reason`: its code; `host`: the application's, empty where it is not known."""
    values = {
        "host": escape(host),
        "place": f" · {escape(host)}" if host else "",
        "reason": escape(reason),
        "request_id": escape(request_id),
        "actions": _actions(ways, MESSAGES[language]["common"]),
    }
    return "".join(values[part] if place % 2 else part for place, part in enumerate(_frame(kind, language))).encode()


@cache
def _frame(kind: str, language: str) -> list[str]:
    """A page with all that is the same for everybody: text, name of a value, text, and so on."""
    common, said = MESSAGES[language]["common"], MESSAGES[language][kind]
    words = {name: escape(text) for name, text in said.items()}
    steps = "".join(f"<li>{words[name]}</li>" for name in ("first", "then") if name in words)
    text = _PAGE.safe_substitute(
        language=language,
        title=words["title"],
        style=_STYLE,
        tone=" warn" if kind in _WAITING else "",
        sign=_CLOCK if kind in _WAITING else _STOP,
        text=words["text"],
        steps=f"<ol>{steps}</ol>\n" if steps else "",
        reason_is=common["reason"],
        reference=common["reference"],
    )
    return _VALUE.split(text)


def _actions(ways: Sequence[Way], common: dict[str, str]) -> str:
    """The links, the first of them the one that stands out."""
    links: list[str] = []
    for way in ways:
        look, target = ("button plain" if links else "button"), ' target="_blank" rel="noopener"' if way.aside else ""
        links.append(f'<a class="{look}" href="{escape(way.href)}"{target}>{common[way.words]}</a>\n')
    return f'<div class="actions">\n{"".join(links)}</div>\n' if ways else ""


def best(accept_language: bytes | None) -> str:
    """The language that a browser likes best (RFC 9110 section 12.5.4). What cannot be read of the header counts for nothing."""
    weights: dict[str, float] = {}
    for part in (accept_language or b"").decode("latin-1").split(",")[:_MOST_RANGES]:
        found = _RANGE.fullmatch(part.strip(" \t"))
        if found:
            name = found[1].lower()
            weights[name] = max(weights.get(name, 0.0), float(found[2] or 1))
    rest = weights.get("*", 0.0)
    choice = max(sorted(MESSAGES, key=lambda name: name != DEFAULT), key=lambda name: weights.get(name, rest))
    return choice if weights.get(choice, rest) > 0 else DEFAULT
