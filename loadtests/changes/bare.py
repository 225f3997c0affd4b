"""`INSERT … COMMIT` and nothing else, by as many clients at once: what this PostgreSQL on this disk can do."""

import asyncio
import time

import asyncpg

TABLE = "CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL)"
INSERT = "INSERT INTO bare (text) VALUES ('as much as an audit event, more or less: ' || repeat('x', 200))"


async def measure(url: str, clients: int, seconds: float) -> list[float]:
    """Milliseconds of each transaction, begun within `seconds`."""
    first = await asyncpg.connect(url)
    await first.execute(TABLE)
    connections = [first, *await asyncio.gather(*(asyncpg.connect(url) for _ in range(clients - 1)))]
    taken: list[float] = []
    end = time.monotonic() + seconds
    try:
        await asyncio.gather(*(_insert(connection, end, taken) for connection in connections))
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))
    return taken


async def _insert(connection: asyncpg.Connection, end: float, taken: list[float]) -> None:
    while time.monotonic() < end:
        start = time.perf_counter()
        await connection.execute(INSERT)
        taken.append((time.perf_counter() - start) * 1000)
