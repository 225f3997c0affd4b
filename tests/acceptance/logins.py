"""The sessions' service as the login application uses it, for tests that need no browser."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID, uuid4

import jwt
import psycopg

from control_plane.changes import Change, Origin, Work, changing, reading
from control_plane.db.pool import create_pool
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Begun, Held, Login, Refused, Seen, Tokens
from control_plane.settings import Settings
from tests.acceptance.plane import Plane

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
HOME = Seen("192.0.2.7", FIREFOX)
PROVIDER = uuid4()


@dataclass
class Door:
    """The sessions' service as the login application uses it: each call a transaction of its own, on a pool of its own."""

    settings: Settings
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    pool: Any = None

    def __enter__(self) -> Self:
        self.pool = self.run(create_pool(self.settings.database_url, "catalyst_control", size=2))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.pool.close())
        self.loop.close()

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def change(self, work: Callable[[Change], Awaitable[Any]]) -> Any:
        async def done() -> Any:
            async with changing(self.pool, Origin(SYSTEM)) as change:
                return await work(change)

        return self.run(done())

    def read(self, work: Callable[[Work], Awaitable[Any]]) -> Any:
        async def done() -> Any:
            async with reading(self.pool, SYSTEM) as looking:
                return await work(looking)

        return self.run(done())

    def begin(self, profile: str, org: str, **more: Any) -> Begun:
        login = {"amr": ["pwd", "otp"], "acr": "gold", "auth_time": datetime.now(UTC), "provider": PROVIDER, "subject": "ann"}
        login |= {"upstream_sid": "s1", "id_token": "canary", "address": HOME.address, "user_agent": FIREFOX} | more
        began: Begun = self.change(
            lambda change: sessions.begin(change, self.settings, Login(profile=UUID(profile), org=UUID(org), **login))
        )
        return began

    def refresh(self, token: str, host: str = "", seen: Seen = HOME) -> Tokens | Refused:
        found: Tokens | Refused = self.change(lambda change: sessions.refresh(change, self.settings, token, host, seen))
        return found

    def refreshed(self, token: str, host: str = "") -> Tokens:
        found = self.refresh(token, host)
        assert isinstance(found, Tokens), found
        return found

    def open_chain(self, session: UUID, host: str) -> Tokens:
        opened: Tokens = self.change(lambda change: sessions.open_chain(change, self.settings, session, host))
        return opened

    def holder(self, token: str, host: str = "", **how: bool) -> Held | None:
        found: Held | None = self.read(lambda work: sessions.holder(work, token, host, **how))
        return found


def later(plane: Plane | Door, seconds: float) -> None:
    """Everything that was written about logins looks as if it were this much older."""
    moved = ("token_expires_at", "idle_ends_at", "absolute_ends_at", "last_seen_at", "created_at", "revoked_at")
    columns = ", ".join(f"{name} = {name} - make_interval(secs => %(s)s)" for name in moved)
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        connection.execute(f"UPDATE catalyst.sessions SET {columns}", {"s": seconds})
        for table, name in (("refresh_chains", "racing_until"), ("spent_refresh_tokens", "spent_at")):
            connection.execute(f"UPDATE catalyst.{table} SET {name} = {name} - make_interval(secs => %s)", [seconds])
        connection.execute(
            "UPDATE catalyst.profiles SET sessions_not_before = sessions_not_before - make_interval(secs => %s)", [seconds]
        )


def claims(token: str) -> dict[str, Any]:
    read: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return read
