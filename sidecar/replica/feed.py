"""Keeps the replica fresh: LISTEN first, then read, then follow.

The table is the truth and notifications are only the doorbell: one that is lost, late or never sent costs at most a second, and
what one says is believed only where a MAC shows that the database rang (seal.py).
Everything that the feed reads is put into the state within one turn of the loop, so no check ever sees half a transaction.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import random
from typing import Any, Final
from uuid import UUID

import orjson

from sidecar.logs import fields
from sidecar.replica.line import DatabaseUnusable, Head, Line
from sidecar.replica.live import Replica, clock
from sidecar.replica.report import Reporter
from sidecar.replica.rows import DISPENSABLE, SHAPES, Change
from sidecar.replica.seal import Seal
from sidecar.replica.state import State
from sidecar.samples import Samples

__all__ = ["DatabaseUnusable", "Feed", "FeedSettings", "Replica", "clock"]

log: Final = logging.getLogger(__name__)

_LOG: Final = """
    SELECT revision, extract(epoch FROM committed_at)::float8, relation, op, "row"::text
    FROM replica.changes WHERE revision > $1 AND revision <= $2 ORDER BY revision, ordinal"""
_CHUNK: Final = 1_000
"""Rows between two turns of the loop while reading: some 5 ms of work."""
_MOST_CHANGES: Final = 50_000
"""Changes of one transaction that are put into the state in place, which holds the loop up; with more, all is read anew."""

_OUT_OF_REACH: Final = "tried again without end; if this lasts, see that PostgreSQL runs where CATALYST_DATABASE_URL says"

_MIGRATE: Final = "checks are answered without it; run `catalyst migrate` of this version"

_MOST_BELLS: Final = 1_000
"""Doorbells, of 8 kB at most, that are kept while the log is being read; MACs of the last that came."""

_WARN_INTERVAL: Final = 60.0
"""Seconds between two log lines about doorbells that did not verify: whoever rings them decides how many there are."""


class _LogEnded(Exception):
    """The log does not hold what comes next."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How the feed works. Times in seconds.

    `applications`: the slugs of those that are kept, None for all. `first_pause` and `longest_pause` bound the jittered waits
    between connections.
    """

    database_url: str
    applications: frozenset[str] | None = None
    max_staleness: float = 30.0
    head_interval: float = 1.0
    answer_limit: float = 5.0
    report_interval: float = 5.0
    first_pause: float = 0.1
    longest_pause: float = 5.0


class Feed:
    """The one writer of a replica.

    `run` ends only by `stop`, by being cancelled, or by raising DatabaseUnusable before the first complete read.
    """

    def __init__(
        self,
        replica: Replica,
        settings: FeedSettings,
        assertion_jwk: Mapping[str, Any],
        samples: Samples | None = None,
        *,
        clock: Callable[[], float] = clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._replica = replica
        self._settings = settings
        self._reporter = Reporter(
            replica,
            samples or Samples(0),
            settings.applications,
            assertion_jwk,
            interval=settings.report_interval,
            limit=settings.answer_limit / 5,
            clock=clock,
        )
        self._clock = clock
        self._wall = wall
        self._line: Line | None = None
        # By what doorbells are verified; None until this connection has shown the head. Whether it may be out of date.
        self._seal: Seal | None = None
        self._doubted = False
        self._warned_at = float("-inf")
        # The MACs of the last doorbells, by revision, and whether no two of one revision differed.
        self._heard: dict[int, bytes] = {}
        self._trusted = True
        # What doorbells said of revisions that cannot be applied yet.
        self._bells: dict[int, dict[str, Any]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._pause = settings.first_pause
        self._unreadable: dict[str, str] = {}
        self._unreadable_shadows: dict[str, str] = {}
        self._remains: list[State] = []

    @property
    def sidecar_id(self) -> UUID:
        """By what the control plane knows this process."""
        return self._reporter.sidecar_id

    async def run(self) -> None:
        """Connect and follow, again and again."""
        while not self._stopping:
            try:
                await self._follow()
            except DatabaseUnusable as error:
                if not self._replica.full_reads:
                    raise
                log.error("database unusable", extra=fields(reason=str(error)))  # noqa: TRY400 - the message is all there is to know
            except OSError as error:  # TimeoutError is one
                reason = error.strerror or "no answer in time"
                told = fields(reason=reason, advice=_OUT_OF_REACH, revision=self._replica.revision)
                log.warning("database out of reach", extra=told)
            except Exception as error:  # the edge of the loop: whatever it was, connect anew; meanwhile the replica gets stale
                if not self._stopping:
                    log.warning("feed interrupted", exc_info=error, extra=fields(revision=self._replica.revision))
            if not self._stopping:
                await self._rest()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping = True
        self._wake.set()
        if self._line is not None:
            self._line.close()

    async def _rest(self) -> None:
        """Wait before the next connection: twice as long each time until one of them confirmed something.

        At random, so that a fleet does not come back in step.
        """
        await asyncio.sleep(self._pause * (0.5 + random() / 2))  # noqa: S311 - no secret
        self._pause = min(self._pause * 2, self._settings.longest_pause)

    async def _follow(self) -> None:
        """One connection, from its beginning to its end."""
        line = await Line.open(self._settings.database_url, self._settings.answer_limit)
        self._line = line
        self._replica.connections += 1
        try:
            await line.listen(lambda payload: self._ring(line, payload))
            while not self._stopping:
                self._wake.clear()
                await self._catch_up(line)
                await self._tidy()
                await self._reporter.tell(line)
                await self._next_turn()
        finally:
            self._line, self._seal = None, None
            self._forget_bells()
            line.close()

    async def _next_turn(self) -> None:
        """Wait for a doorbell that could not be answered at once, or for the time of the next question."""
        try:
            async with asyncio.timeout(self._settings.head_interval):
                await self._wake.wait()
        except TimeoutError:
            return

    # --- following ---------------------------------------------------------------------------------------------------------

    def _ring(self, line: Line, payload: str) -> None:
        """A doorbell: take what it brings, if the database rang and that is what comes next; else have the log read."""
        if line is not self._line:
            return
        try:
            verified = self._seal.verified(payload) if self._seal is not None else None
            if verified is None:
                self._doubt()
            else:
                self._hear(*verified)
        except Exception:
            log.exception("doorbell not understood")
            self._wake.set()

    def _doubt(self) -> None:
        """A doorbell that does not verify is a hint to read the log, and the key, which may be another one now; nothing more."""
        self._wake.set()
        if self._seal is None:
            return
        self._doubted = True
        self._replica.doorbells_unverified += 1
        if self._clock() - self._warned_at >= _WARN_INTERVAL:
            self._warned_at = self._clock()
            log.warning("doorbell not verified", extra=fields(total=self._replica.doorbells_unverified))

    def _hear(self, mac: bytes, message: bytes) -> None:
        """A doorbell that verified. It can still have been rung before, by whoever listened, or be forged by a sidecar."""
        bell = orjson.loads(message)
        if self._heard.setdefault(bell["r"], mac) != mac:
            self._distrust(bell["r"])
            return
        if len(self._heard) > _MOST_BELLS:
            del self._heard[next(iter(self._heard))]
        if bell["r"] > self._replica.revision:
            self._bells[bell["r"]] = bell
            self._answer_bells()

    def _distrust(self, revision: int) -> None:
        """The database rings once for a revision; two that differ mean that somebody else who has the key has rung.

        A forged doorbell that the database does not ring after is found out by the next question for the head.
        """
        log.error("forged doorbell", extra=fields(revision=revision))
        self._trusted = False
        self._bells.clear()
        self._discard()
        self._wake.set()

    def _forget_bells(self) -> None:
        """Begin anew with doorbells."""
        self._bells.clear()
        self._heard.clear()

    def _discard(self) -> None:
        """Decide nothing more by a state that may hold what never was; until all has been read anew there is none."""
        state = self._replica.state
        if state is not None:
            state.retire()
            self._replica.lost()
            self._remains.append(state)

    def _answer_bells(self) -> None:
        """Take the revisions that doorbells brought, while each is the next; have the log read where one is missing.

        Those that come while the log is being read wait: else a feed that is behind would never be done with reading.
        """
        state = self._replica.state
        while state is not None and self._fits(state) and (bell := self._bells.pop(state.revision + 1, None)):
            if "c" not in bell:  # its changes were too many for a doorbell
                self._wake.set()
                return
            self._take(state, bell["r"], bell["t"], [Change(*change) for change in bell["c"]])
            self._replica.doorbells_applied += 1
        if self._bells:
            self._wake.set()
        if len(self._bells) > _MOST_BELLS:
            self._bells.clear()

    def _fits(self, state: State) -> bool:
        """Whether doorbells are of the history that the state is of."""
        return self._seal is not None and self._seal.epoch == state.epoch

    async def _renew_seal(self, line: Line, epoch: str) -> None:
        """Read the key again on a new connection, in a new history, and when a doorbell did not verify."""
        if self._seal is not None and self._seal.epoch == epoch and not self._doubted:
            return
        self._doubted = False
        key = await line.doorbell_key()
        if self._seal is None or self._seal.epoch != epoch:
            self._forget_bells()
        self._seal = None if key is None else Seal(key, epoch)

    async def _catch_up(self, line: Line) -> None:
        """Ask for the head and read what is missing: that proves that the replica was fresh when the question was sent."""
        known, asked_at, asked_wall = self._replica.revision, self._clock(), self._wall()
        head = await line.head()
        await self._renew_seal(line, head.epoch)
        state = self._replica.state
        if known > head.revision and state is not None and state.epoch == head.epoch:
            self._discard()
        try:
            if state is None or not self._trusted or not _goes_on(state, known, head):
                raise _LogEnded
            if head.revision > state.revision:
                await self._read_log(line, state, head.revision)
        except _LogEnded:
            await self._read_all(line)
        self._replica.confirm(asked_at, asked_wall)
        self._bells = {revision: bell for revision, bell in self._bells.items() if revision > self._replica.revision}
        self._answer_bells()
        self._pause = self._settings.first_pause

    async def _read_log(self, line: Line, state: State, upto: int) -> None:
        """Apply the revisions up to this one, each whole. Raises _LogEnded where one is missing, too large, or does not fit."""
        revision, committed_at, changes = state.revision, 0.0, list[Change]()
        async with line.snapshot():
            async for rows in line.chunks(_LOG, state.revision, upto, size=_CHUNK):
                for number, at, relation, op, row in rows:
                    if number != revision:
                        self._take_logged(state, revision, committed_at, changes)
                        revision, committed_at, changes = number, at, []
                    changes.append(Change(relation, op, orjson.loads(row)))
                if len(changes) > _MOST_CHANGES:
                    raise _LogEnded
        self._take_logged(state, revision, committed_at, changes)
        if state.revision < upto:
            raise _LogEnded

    def _take_logged(self, state: State, revision: int, committed_at: float, changes: list[Change]) -> None:
        """Apply a revision of the log, unless a doorbell has brought it in the meantime."""
        if revision > state.revision + 1 or self._replica.state is not state:
            raise _LogEnded
        if revision == state.revision + 1:
            self._take(state, revision, committed_at, changes)

    def _take(self, state: State, revision: int, committed_at: float, changes: list[Change]) -> None:
        """Apply one revision. If that fails the state is dead, and there is none until all has been read anew."""
        try:
            state.apply(revision, changes)
        except Exception:
            self._discard()
            raise
        self._replica.applied(self._wall() - committed_at)
        self._note_unreadable(state)

    # --- reading everything ------------------------------------------------------------------------------------------------

    async def _read_all(self, line: Line) -> None:
        """Read everything as of one revision into a state of its own, beside the old one, and put it in force in one step."""
        self._trusted = True
        self._forget_bells()
        started = self._clock()
        state = await self._snapshot(line)
        before = self._replica.take(state)
        if before is not None:
            self._remains.append(before)
        self._note_unreadable(state)
        seconds = round(self._clock() - started, 3)
        log.info("read everything", extra=fields(revision=state.revision, principals=state.principals, seconds=seconds))

    async def _tidy(self) -> None:
        """Give the memory of states that are not in force any more back."""
        while self._remains:
            for _ in self._remains.pop().take_apart():
                await asyncio.sleep(0)

    async def _snapshot(self, line: Line) -> State:
        # A collection that walks over a million half-read rows would hold the loop up; what has been read is not garbage.
        gc.disable()
        try:
            async with line.snapshot():
                head = await line.head()
                state = State(head.epoch, head.revision, self._settings.applications)
                for relation in SHAPES:
                    if relation in DISPENSABLE and not await line.has(relation):
                        log.warning("database older than this sidecar", extra=fields(missing=relation, advice=_MIGRATE))
                        continue
                    async for rows in line.chunks(f'SELECT "row"::text FROM replica.{relation}', size=_CHUNK):  # noqa: S608 - our own names
                        state.load(relation, (orjson.loads(row[0]) for row in rows))
            state.settle()
            gc.freeze()
        finally:
            gc.enable()
        return state

    def _note_unreadable(self, state: State) -> None:
        """Tell, once, which applications deny everything as their policy cannot be read, and which shadows cannot be either."""
        unreadable = state.catalogue.unreadable
        if unreadable != self._unreadable:
            for slug in unreadable.keys() - self._unreadable.keys():
                log.error("policy unreadable", extra=fields(application=slug, reason=unreadable[slug]))
            self._unreadable = dict(unreadable)
        shadows = state.catalogue.unreadable_shadows
        if shadows != self._unreadable_shadows:
            for slug in shadows.keys() - self._unreadable_shadows.keys():
                log.warning("shadow unreadable", extra=fields(application=slug, reason=shadows[slug]))
            self._unreadable_shadows = dict(shadows)


def _goes_on(state: State, known: int, head: Head) -> bool:
    """Whether the log leads from the state to the head. `known` is the state's revision when the head was asked for."""
    return state.epoch == head.epoch and known <= head.revision and state.revision >= min(head.oldest - 1, head.revision)
