"""What a login tells: the claims of an ID token, with what only userinfo says, as far as they can be read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from control_plane.oidc.provider import Provider

_METHOD: Final = re.compile(r"[A-Za-z0-9_.-]{1,50}")
_CLASS: Final = re.compile(r"[!#-\[\]-~]{1,200}")
_EMAIL: Final = re.compile(r'[^\x00-\x20\x7f@<>",;]+@[^\x00-\x20\x7f@<>",;]+')
_MOST_METHODS: Final = 20
_MOST_GROUPS: Final = 1000
_MAX_TEXT: Final = 200
_MAX_EMAIL: Final = 320
_MAX_SID: Final = 255

NEVER: Final = datetime.fromtimestamp(0, UTC)
"""When somebody logged in whose provider does not say: so long ago that no rule about the age of a login takes it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A login that was proved. `amr` and `acr` in our words; `auth_time` is `NEVER` where the provider does not say.

    A text that is not there or cannot be read is empty; `email_verified` is the provider's word for it. `token`: all claims.
    """

    issuer: str
    subject: str
    email: str = ""
    email_verified: bool = False
    name: str = ""
    amr: Sequence[str] = ()
    acr: str = ""
    auth_time: datetime = NEVER
    sid: str = ""
    groups: Sequence[str] = ()
    id_token: str = field(default="", repr=False)
    token: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LogoutClaims:
    """Who is logged out at a provider: a subject (everywhere), a session there, or a subject's session. `jti` comes once."""

    issuer: str
    subject: str
    sid: str
    jti: str
    issued_at: datetime


def read(provider: Provider, subject: str, found: Mapping[str, Any], id_token: str = "") -> Claims:
    """The claims as they are used from here on."""
    acr = _matching(found.get("acr"), _CLASS)
    methods = [method for method in texts(found.get("amr")) if _METHOD.fullmatch(method)][:_MOST_METHODS]
    email = found.get("email")
    readable = isinstance(email, str) and len(email) <= _MAX_EMAIL and _EMAIL.fullmatch(email) and email.isprintable()
    return Claims(
        issuer=provider.issuer,
        subject=subject,
        email=str(email) if readable else "",
        email_verified=bool(readable) and found.get("email_verified") in (True, "true"),
        name=_text(found.get("name"), _MAX_TEXT),
        amr=provider.our_amr(methods, acr)[:_MOST_METHODS],
        acr=provider.our_acr(acr),
        auth_time=moment(found.get("auth_time")),
        sid=_text(found.get("sid"), _MAX_SID),
        groups=groups(provider, found),
        id_token=id_token,
        token=found,
    )


def missing(provider: Provider, found: Mapping[str, Any]) -> bool:
    """Whether userinfo may say something that was asked for and is not in the ID token."""
    wanted = [name for name in ("email", "profile") if name in provider.scopes]
    names = [{"email": "email", "profile": "name"}[scope] for scope in wanted]
    return any(name not in found for name in [*names, *filter(None, [provider.groups_claim])])


def filled(provider: Provider, found: Mapping[str, Any], userinfo: Mapping[str, Any]) -> dict[str, Any]:
    """The ID token's claims with what only userinfo says of a person. How and when they logged in, nothing but the token says."""
    names = [name for name in ("name", provider.groups_claim) if name and name not in found]
    if "email" not in found:
        names += ["email", "email_verified"]
    return {**found, **{name: userinfo.get(name) for name in names}}


def groups(provider: Provider, found: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups in the provider's claim for them: a list of texts, or one text."""
    if not provider.groups_claim:
        return ()
    said = [one for one in texts(found.get(provider.groups_claim)) if _text(one, _MAX_TEXT)]
    return tuple(dict.fromkeys(said[:_MOST_GROUPS]))


def texts(value: Any) -> Iterator[str]:
    """The texts in a list; a text alone is a list of one."""
    yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _matching(value: Any, pattern: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _text(value: Any, most: int) -> str:
    """A printable text that is not too long; empty for anything else."""
    return value if isinstance(value, str) and len(value) <= most and value.isprintable() else ""


def moment(value: Any) -> datetime:
    """A moment of a token's; `NEVER` where it says none, or one that no calendar has."""
    try:
        return max(NEVER, datetime.fromtimestamp(int(value), UTC))
    except (TypeError, ValueError, OverflowError, OSError):
        return NEVER
