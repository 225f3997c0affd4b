"""What somebody asks the login page for, read once from the query and kept while they are at their provider."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from starlette.datastructures import QueryParams

from control_plane.login import places, return_to
from control_plane.login.handoffs import is_challenge
from control_plane.login.refusals import LoginRefused
from control_plane.login.return_to import ReturnAddress
from control_plane.login.step_up import Demands, Unreadable
from control_plane.settings import Settings

_NOTHING: Final = Demands()
_REFERENCE: Final = re.compile(r"[A-Za-z0-9-]{1,63}")


def single(query: str) -> dict[str, str]:
    """The parameters of a raw query. Raises `LoginRefused` where one is given twice: two programs could take different ones."""
    pairs = QueryParams(query).multi_items()
    if len({name for name, _ in pairs}) != len(pairs):
        raise LoginRefused("malformed_request", 400, way=None)
    return dict(pairs)


@dataclass(frozen=True, slots=True)
class Wish:
    """Where to go after the login, and what it must be like.

    `return_to` None: to the login host's own pages. `challenge`: of the application's host, empty where it set no binding cookie.
    `org`, `provider`: chosen ones, empty where any will do. `again`: the provider is to ask who it is.
    """

    return_to: ReturnAddress | None = None
    challenge: str = ""
    demands: Demands = _NOTHING
    org: str = ""
    provider: str = ""
    again: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str], settings: Settings) -> Self:
        """The wish of a query. Raises `LoginRefused`. Whose host it leads to is not looked at here."""
        text = query.get("return_to")
        address = None if text is None else return_to.parse(text, https_only=places.https_only(settings))
        if text is not None and address is None:
            raise LoginRefused("invalid_return_to", 400, way=None)
        challenge, org, provider = (query.get(name, "") for name in ("challenge", "org", "provider"))
        if challenge and not (address and is_challenge(challenge)):
            raise LoginRefused("malformed_request", 400, way=None)
        if any(reference and not _REFERENCE.fullmatch(reference) for reference in (org, provider)):
            raise LoginRefused("malformed_request", 400, way=None)
        try:
            demands = Demands.read(query)
        except Unreadable:
            raise LoginRefused("malformed_request", 400, way=None) from None
        return cls(address, challenge, demands, org, provider, query.get("again") == "1")

    def as_query(self) -> dict[str, str]:
        """The same as parameters of a query."""
        values = {
            "return_to": str(self.return_to or ""),
            "challenge": self.challenge,
            "org": self.org,
            "provider": self.provider,
            "again": "1" if self.again else "",
        }
        return {name: value for name, value in values.items() if value} | self.demands.as_query()

    def retry(self, settings: Settings) -> str:
        """The login page, asked for the same from the start: another login, by whichever provider."""
        return places.login(settings, replace(self, challenge="", provider="", again=True).as_query())
