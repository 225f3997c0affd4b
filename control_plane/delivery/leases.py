"""A worker's own connection: it hears the doorbell there, and there it says that it is alive.

Both fail together and are taken up again together, for as long as it takes. Who has said nothing for `LEASE_SECONDS` is taken for
dead by any other worker; that is known here before it is so, and nothing is sent from then on (`holds`).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg
import structlog

from control_plane.db.pool import MAY_PASS, connect
from control_plane.db.queries import load
from sidecar import __version__

SQL = load(Path(__file__).with_name("queue.sql"))

CHANNEL: Final = "catalyst_webhooks"
QUEUES: Final = "queues"
LEASE_SECONDS: Final = 10.0
_BEAT_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 4.0
_MARGIN_SECONDS: Final = 2.0
"""A worker stops this long before others may take its queues."""
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 3.0

_log = structlog.get_logger()
_chance: Final = random.SystemRandom().random


class Lease:
    """One worker's row in `workers`. `on_ring`: somebody rang, and said where to look: in `QUEUES`, or everywhere.

    `on_change`: this worker holds again what it held, or (`lost`) another worker may have taken it all.
    """

    def __init__(self, url: str, on_ring: Callable[[str], None], on_change: Callable[[bool], None]) -> None:
        self.id = uuid4()
        self.connected = False
        self._url = url
        self._on_ring = on_ring
        self._on_change = on_change
        self._is_entered = False
        self._until = 0.0

    def holds(self) -> bool:
        """Whether nobody else can have taken what this worker holds."""
        return time.monotonic() < self._until

    async def keep(self) -> None:
        """Until it is cancelled."""
        wait = _FIRST_WAIT
        while True:
            try:
                connection = await connect(self._url, "catalyst_worker", statement_seconds=_ANSWER_SECONDS)
                try:
                    await connection.add_listener(CHANNEL, self._rung)
                    await self._beat(connection)
                    wait = _FIRST_WAIT
                    await self._stay(connection)
                finally:
                    self.connected = False
                    connection.terminate()
            except (*MAY_PASS, asyncpg.PostgresError) as problem:
                _log.warning("the database cannot be heard", error=type(problem).__name__)
            await asyncio.sleep(wait * (0.5 + _chance()))
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _stay(self, connection: Any) -> None:
        """Listen and tell, for as long as the connection lives."""
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _connection: closed.set())
        self.connected = True
        # While the line was down somebody may have rung.
        self._on_ring("")
        while not closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await closed.wait()
                    return
            await self._beat(connection)

    async def _beat(self, connection: Any) -> None:
        """Say that this worker is alive, enter it where it is not known, and remove those that are dead."""
        asked = time.monotonic()
        if self._is_entered and await connection.fetchval(SQL.beat, self.id, LEASE_SECONDS) is None:
            _log.warning("taken for dead: another worker has what this one held", worker=str(self.id))
            self._is_entered, self._until = False, 0.0
            self._on_change(True)
        if not self._is_entered:
            self.id = uuid4()
            await connection.execute(SQL.enter, self.id, __version__, LEASE_SECONDS)
            self._is_entered = True
        was_held = self.holds()
        self._until = asked + LEASE_SECONDS - _MARGIN_SECONDS
        if not was_held:
            self._on_change(False)
        await connection.fetchrow(SQL.sweep)

    async def leave(self, pool: Any) -> None:
        """Remove this worker's row: what it held is free at once."""
        self._until = 0.0
        await pool.execute(SQL.leave, self.id)

    def _rung(self, _connection: object, _pid: int, _channel: str, said: str) -> None:
        self._on_ring(said)
