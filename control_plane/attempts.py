"""One counter for all ways in: failed attempts, by who makes them and by whom they claim to be.

Counted in PostgreSQL, on failure only and by one statement, for every control plane of the installation. Who is over a limit is
known in memory until the window ends: a success costs no round trip. Another process learns of it at its next failure.

Three numbers, so that a limit is no weapon (decision 0029): failures of an address, failures of an account from an address,
failures of an account from anywhere. The last one refuses nobody by itself: an account that is attacked from many addresses is
refused to those that have failed for it already, and stays open to the address that its owner comes from.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from cachetools import LRUCache

from control_plane.changes import Origin, Resource, changing
from control_plane.client_address import is_trusted, parse
from control_plane.db.queries import load
from control_plane.errors import ApiError
from control_plane.permissions import SYSTEM
from control_plane.settings import Settings
from control_plane.telemetry import Metrics

SQL = load(Path(__file__).with_name("attempts.sql"))

Way = Literal["api", "callback", "handoff", "refresh", "token", "backchannel"]
Kind = Literal["address", "account_from_address", "account"]

WINDOW: Final = 60.0
"""Seconds, from the first failure on."""
LIMITS: Final[dict[Kind, int]] = {"address": 120, "account_from_address": 20, "account": 1000}
"""Failures in a window; one more and it is over the limit. An address is an IPv4 address or an IPv6 /64."""

_KINDS: Final[tuple[Kind, ...]] = ("address", "account_from_address", "account")
_SLOTS: Final = 1 << 17
"""Places in the table for each kind."""
_HELD_FAST: Final = 20
"""Whoever has failed this often keeps their place in the table until their window ends."""
_REMEMBERED: Final = 64 * 1024
_SAME_WINDOW: Final = 1.0
_EVENTS_A_MINUTE: Final = 30
_COUNT_SECONDS: Final = 1.0
_EVENT_SECONDS: Final = 5.0
_AT_ONCE: Final = 2
"""Connections that counting takes from requests, at most."""

ACCESS: Final = Resource("access", ())
_PLAIN_ACCOUNT: Final = re.compile(r"(api_key|profile|session|provider):[0-9a-f-]{36}")
"""Accounts that the audit log may name: ids, and nothing that a stranger wrote."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Count:
    """Failures of one key until `ends`, in the clock's seconds."""

    failures: int
    ends: float


class Attempts:
    """What one control plane knows of failed attempts. `pool`: connections in the role catalyst_control.

    An address is text as `client_address.address` gives it; a trusted proxy's own address stands for many clients and is never
    charged. An account is what was claimed: `api_key:<id>`, `profile:<id>`, `session:<id>`, `provider:<id>:<subject>`.
    `clock` gives seconds that only go forward.
    """

    def __init__(self, pool: Any, metrics: Metrics, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._metrics = metrics
        self._trusted = settings.trusted_proxies
        self._secret = settings.secret_key.first
        self._clock = clock
        self._counts: LRUCache[bytes, _Count] = LRUCache(_REMEMBERED)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._events = _Count(0, -math.inf)

    def refuse(self, address: str | None, account: str | None = None) -> None:
        """ApiError 429 with Retry-After where `address`, or `account` as seen from there, is over its limit.

        Asked before a credential is looked at. Costs memory only.
        """
        if not self._counts:
            return
        keys = self._keys(address, account)
        found = {kind: count for kind, key in keys.items() if (count := self._live(key)) is not None}
        over = [kind for kind, count in found.items() if count.failures > LIMITS[kind]]
        if "account_from_address" not in found and "account" in over:
            over.remove("account")
        if not over:
            return
        self._metrics.throttled.labels(limit=over[0]).inc()
        wait = max(found[kind].ends for kind in over) - self._clock()
        detail = "Too many attempts have failed. Wait as many seconds as Retry-After says, then try again."
        raise ApiError(429, "too_many_attempts", detail, retry_after=max(1, math.ceil(wait)))

    async def note(self, way: Way, address: str | None, account: str | None = None) -> None:
        """Count a failed attempt. Never raises, and takes a second at most: what the database cannot count, memory has counted.

        To be called without a connection in hand. Only what may be a guess is noted: who shows a credential that was good once,
        and has ended, knew it.
        """
        keys = self._keys(address, account)
        for key in keys.values():
            self._count(key)
        counted, began = "memory", []
        if keys:
            try:
                async with asyncio.timeout(_COUNT_SECONDS), self._turns:
                    began = await self._count_for_all(keys)
                counted = "database"
            except Exception as failure:  # noqa: BLE001  (whoever failed is answered so, whatever happens here)
                _log.warning("a failed attempt was not counted for all", exception=type(failure).__name__)
        self._metrics.attempts.labels(way=way, counted=counted).inc()
        for kind in began:
            await self._tell(kind, way, address, account)

    async def _count_for_all(self, keys: dict[Kind, bytes]) -> list[Kind]:
        """Count in the table, and learn what all processes have counted. The kinds that have gone over their limit just now."""
        slots = [_KINDS.index(kind) * _SLOTS + int.from_bytes(key[:4]) % _SLOTS for kind, key in keys.items()]
        rows = await self._pool.fetch(SQL.count, slots, list(keys.values()), WINDOW, _HELD_FAST)
        counts = {row["key"]: row for row in rows}
        for row in rows:
            known, ends = self._counts.get(row["key"]), self._clock() + row["seconds"]
            # Of the same window, answers may come in another order than they were counted in.
            same = known is not None and abs(known.ends - ends) < _SAME_WINDOW
            self._counts[row["key"]] = _Count(max(row["failures"], known.failures if known and same else 0), ends)
        return [kind for kind, key in keys.items() if key in counts and counts[key]["failures"] == LIMITS[kind] + 1]

    async def _tell(self, kind: Kind, way: Way, address: str | None, account: str | None) -> None:
        """The event `access.throttled`: by the one process whose failure went over the limit, and so many a minute."""
        now = self._clock()
        if self._events.ends <= now:
            self._events = _Count(0, now + WINDOW)
        self._events.failures += 1
        if self._events.failures > _EVENTS_A_MINUTE:
            return
        about = account if kind != "address" and account is not None and _PLAIN_ACCOUNT.fullmatch(account) else kind
        facts = {"limit": kind, "failures": LIMITS[kind], "seconds": int(WINDOW), "way": way}
        try:
            async with asyncio.timeout(_EVENT_SECONDS), changing(self._pool, Origin(SYSTEM, address=address)) as change:
                await change.record(ACCESS, "throttled", {"id": about}, None, None, facts)
            self._metrics.committed(change.recorded)
        except Exception:  # noqa: BLE001  (as above)
            _log.exception("a limit that was reached was not recorded")

    def _count(self, key: bytes) -> None:
        """Count in memory."""
        known = self._live(key)
        if known is None:
            self._counts[key] = _Count(1, self._clock() + WINDOW)
        else:
            known.failures += 1

    def _live(self, key: bytes) -> _Count | None:
        """What is counted of a key in a window that has not ended."""
        known = self._counts.get(key)
        return known if known is not None and known.ends > self._clock() else None

    def _keys(self, address: str | None, account: str | None) -> dict[Kind, bytes]:
        """What a failure is charged to. Without an address, or with a proxy's, an account alone: it cannot be refused by that."""
        block = None if address is None or is_trusted(address, self._trusted) else _block(address)
        named = dict(self._named(block, account))
        return {kind: self._secret.mac(_joined(kind, *parts))[:16] for kind, parts in named.items()}

    @staticmethod
    def _named(block: str | None, account: str | None) -> Iterator[tuple[Kind, Sequence[str]]]:
        """Each kind that can be told of an attempt, with what it is of."""
        if block is not None:
            yield "address", (block,)
        if block is not None and account is not None:
            yield "account_from_address", (block, account)
        if account is not None:
            yield "account", (account,)


async def forget(pool: Any) -> None:
    """Remove what has ended."""
    await pool.execute(SQL.forget)


def _block(address: str) -> str | None:
    """The IPv4 address, or the /64 that one IPv6 customer has to choose addresses from. None: no address."""
    found = parse(address)
    if isinstance(found, IPv6Address):
        return f"{int(found) >> 64:x}::/64"
    return None if found is None else str(found)


def _joined(*parts: str) -> bytes:
    """Parts with their lengths before them: different parts never give the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)
