"""What a sidecar tells the database, now and then, over its feed's connection. Nothing that goes wrong with it stops the feed."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import uuid4

import asyncpg
import orjson

from sidecar import __version__
from sidecar.logs import fields
from sidecar.replica.line import Line
from sidecar.replica.live import Replica
from sidecar.replica.rows import uuid_text
from sidecar.samples import Samples

log: Final = logging.getLogger(__name__)

_ITSELF: Final = "SELECT replica.report($1, $2, $3, $4, $5, $6)"
_DECISIONS: Final = "SELECT replica.report_decisions($1, $2)"
_COUNTS: Final = "SELECT replica.report_counts($1)"
_USES: Final = "SELECT replica.report_use($1)"

_MOST: Final = 1_000
"""Entries of a report that the database takes."""
_SLICE: Final = 25
"""Decisions in one statement."""


class Reporter:
    """Tells what `samples` holds, and that the sidecar lives, every `interval` seconds (`clock`).

    `limit`: seconds that PostgreSQL may take for one statement of what `samples` holds, and after which none is begun. Meanwhile
    the feed cannot ask for the head.
    """

    def __init__(
        self,
        replica: Replica,
        samples: Samples,
        applications: frozenset[str] | None,
        assertion_jwk: Mapping[str, Any],
        *,
        interval: float,
        limit: float,
        clock: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._samples = samples
        self.sidecar_id = uuid4()
        self._about = (__version__, sorted(applications or ()))
        self._jwk = orjson.dumps(assertion_jwk).decode()
        self._interval = interval
        self._limit = limit
        self._clock = clock
        self._told_at = float("-inf")
        self._refused: dict[str, str] = {}

    async def tell(self, line: Line) -> None:
        """Report, if it is time to. A report that is refused or takes too long is given up."""
        now = self._clock()
        if self._replica.state is None or now - self._told_at < self._interval:
            return
        self._told_at = now
        await self._try("itself", self._tell_of_itself, line)
        if not self._samples.waiting:
            return
        async with line.limited(self._limit):
            await self._try("uses", self._tell_uses, line)
            await self._try("counts", self._tell_counts, line)
            await self._try("decisions", self._tell_decisions, line)

    def _in_time(self) -> bool:
        """Whether another statement may be begun."""
        return self._clock() - self._told_at <= self._limit

    async def _try(self, what: str, report: Callable[[Line], Awaitable[None]], line: Line) -> None:
        """Make one report. Why one is refused is told once, until it is refused for another reason."""
        if not self._in_time():
            return
        try:
            await report(line)
            self._refused.pop(what, None)
        except asyncpg.PostgresConnectionError:
            raise
        except asyncpg.PostgresError as error:
            reason = type(error).__name__
            if self._refused.get(what) != reason:
                self._refused[what] = reason
                log.warning("report refused", extra=fields(report=what, reason=reason))

    async def _tell_of_itself(self, line: Line) -> None:
        await line.execute(_ITSELF, self.sidecar_id, *self._about, self._replica.revision, self._replica.apply_lag, self._jwk)

    async def _tell_decisions(self, line: Line) -> None:
        """A slice at a time: neither the loop nor a doorbell, which comes between statements, waits for all of them."""
        drawn = self._samples.draw()
        while drawn and self._in_time():
            part, drawn = drawn[:_SLICE], drawn[_SLICE:]
            rows = [(each, row) for each in part if (row := self._samples.row(each)) is not None]
            try:
                kept = await line.value(_DECISIONS, self.sidecar_id, (b"[" + b",".join(row for _, row in rows) + b"]").decode())
            except BaseException:
                self._samples.give_up([*(each for each, _ in rows), *drawn])
                raise
            self._samples.told(len(rows), kept)
        self._samples.give_up(drawn)

    async def _tell_counts(self, line: Line) -> None:
        counts = self._samples.take_counts()
        if not counts:
            return
        told = [
            {"application_id": application, "shadow_etag": etag, **{name: getattr(count, name) for name in count.__slots__}}
            for (application, etag), count in counts.items()
        ]
        try:
            await line.execute(_COUNTS, orjson.dumps(told[:_MOST]).decode())
        except BaseException:
            self._samples.give_back(counts)
            raise
        self._samples.give_back(dict(list(counts.items())[_MOST:]))

    async def _tell_uses(self, line: Line) -> None:
        uses = list(self._samples.uses.items())[:_MOST]
        if not uses:
            return
        await line.execute(_USES, orjson.dumps([{"id": uuid_text(key), "at": at} for key, at in uses]).decode())
        for key, at in uses:
            if self._samples.uses.get(key) == at:
                del self._samples.uses[key]
