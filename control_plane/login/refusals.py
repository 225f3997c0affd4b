"""A login that does not come about: no session, a page that says so, an event, a failed attempt of the address.

A stranger must not be able to fill the disk: an address leaves so many events a minute, all addresses together so many, the rest
is counted. Each is a line in the log, which says what people are not told: `detail`, for whoever has to mend it. Whatever goes
wrong here changes nothing about the refusal.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from control_plane.allowance import Allowance
from control_plane.attempts import Way
from control_plane.changes import Origin, Resource, changing
from control_plane.login.return_to import ReturnAddress
from control_plane.login.step_up import Missing
from control_plane.telemetry import Metrics

LOGIN: Final = Resource("login", ())
"""What a refused login is about: `login.refused`, of the provider where one is known."""

_AN_ADDRESS: Final = 10
_ALL: Final = 300
"""Events in a minute, of one address and of all."""
_WRITE_SECONDS: Final = 5.0

_log = structlog.get_logger()


class LoginRefused(Exception):
    """A login ends here. `code`: of a closed set, on the page and in the event. `retry`: where the person may begin anew.

    `provider`, `org`: whose login it was; `provider_name`: for the page. `way`: the way in that it is a failed attempt at, None
    where nobody can have guessed. `detail`: for the log; it holds nothing secret or personal. `cookies`: to be set with the page.
    """

    def __init__(
        self,
        code: str,
        status: int = 403,
        *,
        provider: UUID | None = None,
        org: UUID | None = None,
        retry: str | None = None,
        way: Way | None = "callback",
        detail: str = "",
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.provider = provider
        self.org = org
        self.retry = retry
        self.way = way
        self.detail = detail
        self.cookies: list[str] = []
        self.provider_name = ""
        self.subject = ""
        """What the provider calls somebody whom nobody added here: told to them alone, for whoever adds them."""

    def page(self) -> tuple[str, dict[str, Any]]:
        """The template that tells of it, and what that shows."""
        known = {"provider": self.provider_name, "subject": self.subject, "try_again": self.retry}
        return "refused", {"code": self.code} | {name: value for name, value in known.items() if value}


class StepUpUnmet(LoginRefused):
    """The provider was asked for more than it gave: to ask again would be a loop.

    `missing`: what of the demands of `address`, where somebody wanted to go.
    """

    def __init__(self, missing: Sequence[Missing], max_age: int | None, address: ReturnAddress | None) -> None:
        super().__init__("step_up_unmet")
        host, back = (address.host, f"{address.origin}/") if address else ("", "")
        self._shown = {"missing": missing, "max_age": max_age or 0, "host": host, "back": back}

    def page(self) -> tuple[str, dict[str, Any]]:
        """The template that tells of it, and what that shows."""
        return "step_up_unmet", self._shown | ({"try_again": self.retry} if self.retry else {})


class Refusals:
    """Tells of the refusals of one control plane. `pool`: connections in the role catalyst_control."""

    def __init__(self, pool: Any, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics
        self._allowance = Allowance()

    async def note(
        self, what: Resource, provider: UUID | None, code: str, origin: Origin, org: UUID | None = None, detail: str = ""
    ) -> None:
        """Record `<what>.refused` with its code, unless its address or all of them together have left too many; log it always."""
        known = {"provider": str(provider)} if provider else {}
        _log.log(logging.WARNING if detail else logging.INFO, f"{what.kind} refused", code=code, detail=detail, **known)
        if not self._allowance.take(("everybody", _ALL), (("address", origin.address), _AN_ADDRESS)):
            self._metrics.refused.labels(recorded="left_out", code=code).inc()
            return
        facts = {"code": code, "provider": provider}
        try:
            async with asyncio.timeout(_WRITE_SECONDS), changing(self._pool, origin) as change:
                await change.record(what, "refused", {"id": provider or what.kind}, org, None, facts)
            self._metrics.committed(change.recorded)
            recorded = "event"
        except Exception:  # noqa: BLE001  (the login was refused already; it is answered so, whatever happens here)
            recorded = "failed"
            _log.exception("a refusal was not recorded")
        self._metrics.refused.labels(recorded=recorded, code=code).inc()
