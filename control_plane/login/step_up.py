"""What a login must bring (RFC 9470), and what of it is missing: read as the sidecars' policy engine reads it, by its own code.

So a session that is enough here is enough there, but for the time that it takes to get there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Final, Literal

from sidecar.policy.match import MULTI_FACTOR_ACR, Acr, MaxAuthAge, MultiFactor
from sidecar.policy.model import CanonicalRequest, Kind, Principal

Missing = Literal["mfa", "acr", "max_age"]

_ACR_VALUES: Final = re.compile(r"[!#-\[\]-~]{1,200}( [!#-\[\]-~]{1,200}){0,9}")
_MAX_AGE: Final = re.compile(r"[0-9]{1,9}")
# The conditions look at the principal alone.
_NO_REQUEST: Final = CanonicalRequest("GET", "https", "", "/", (), IPv4Address(0))


class Unreadable(Exception):
    """A demand that cannot be read. It must not count as none: somebody would go round in a circle."""


@dataclass(frozen=True, slots=True)
class Login:
    """How, how well and when somebody proved who they are."""

    amr: Sequence[str]
    acr: str
    auth_time: datetime


@dataclass(frozen=True, slots=True)
class Demands:
    """What a page asks of a login; nothing by default. `acr_values`: one of them. `max_age`: seconds."""

    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    mfa: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "Demands":
        """The demands of a query. Raises `Unreadable`. The multi-factor class alone asks for a second factor of any kind."""
        acr_values, max_age, mfa = (query.get(name, "") for name in ("acr_values", "max_age", "mfa"))
        readable = (not acr_values or _ACR_VALUES.fullmatch(acr_values)) and (not max_age or _MAX_AGE.fullmatch(max_age))
        if not readable or mfa not in {"", "true"}:
            raise Unreadable
        classes = tuple(acr_values.split())
        any_factor = classes == (MULTI_FACTOR_ACR,)
        return cls(() if any_factor else classes, int(max_age) if max_age else None, mfa == "true" or any_factor)

    def names(self) -> list[Missing]:
        """What is asked, for a page to say."""
        asked: list[tuple[Missing, bool]] = [
            ("mfa", self.mfa),
            ("acr", bool(self.acr_values)),
            ("max_age", self.max_age is not None),
        ]
        return [name for name, wanted in asked if wanted]

    def as_query(self) -> dict[str, str]:
        """The same as parameters of a query."""
        values = {"acr_values": " ".join(self.acr_values), "max_age": "" if self.max_age is None else str(self.max_age)}
        return {name: value for name, value in (values | {"mfa": "true" if self.mfa else ""}).items() if value}

    def missing(self, login: Login, now: float) -> list[Missing]:
        """What a login lacks of what is asked; `now` in seconds since the epoch."""
        auth_time = int(login.auth_time.timestamp())
        principal = Principal(Kind.SESSION, amr=frozenset(login.amr), acr=login.acr, auth_time=auth_time)
        found: list[Missing] = []
        if self.mfa and not MultiFactor().holds(_NO_REQUEST, principal, now):
            found.append("mfa")
        if self.acr_values and not Acr(self.acr_values).holds(_NO_REQUEST, principal, now):
            found.append("acr")
        if self.max_age is not None and not MaxAuthAge(self.max_age).holds(_NO_REQUEST, principal, now):
            found.append("max_age")
        return found
