"""Nothing is lost: writers of every kind, replicas behind a bad network, PostgreSQL killed on the way.

In the end, and at every revision in between, each replica is what the database was.

CATALYST_ADVERSITY_SECONDS makes it longer, CATALYST_ADVERSITY_SEED repeats a run's troubles.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from typing import Any

import pytest

from tests.adversity.chaos import Chaos
from tests.adversity.scene import connect, connected, head, rows_in
from tests.adversity.writers import GONE, Writer, dawdle

SECONDS = float(os.environ.get("CATALYST_ADVERSITY_SECONDS", "15"))
SEED = int(os.environ.get("CATALYST_ADVERSITY_SEED", str(time.time_ns() % 10**6)))
WRITERS, REPLICAS = 8, 3


@pytest.mark.alone
@pytest.mark.timeout(SECONDS + 90)
def test_nothing_is_lost(database):
    print(f"CATALYST_ADVERSITY_SEED={SEED}")
    asyncio.run(story(database))


async def story(database: Any) -> None:
    writers = [Writer(database.admin_url, f"writer-{number}", SEED + number) for number in range(WRITERS)]
    for writer in writers:
        await writer.set_up()
    async with contextlib.AsyncExitStack() as stack:
        networks = [Chaos(database.url("catalyst_sidecar")) for _ in range(REPLICAS)]
        replicas = [await start(await stack.enter_async_context(network.serving()), writers) for network in networks]
        try:
            await trouble(database, writers, networks)
            connection = await connect(database.admin_url)
            last, rows = await head(connection), await rows_in(connection)
            reports = await asyncio.gather(*(finish(replica, last) for replica in replicas))
        finally:
            for replica in replicas:
                if replica.returncode is None:
                    replica.kill()
                    await replica.wait()
        counts = await counts_by_revision(connection, writers)
        assert await head(connection) == last
        await connection.close()
    print(f"{last} revisions by {sum(writer.committed for writer in writers)} transactions")
    for report in reports:
        check(report, last, rows, counts)
    assert sum(report["doorbells"] for report in reports) > 50


async def start(url: str, writers: list[Writer]) -> Process:
    who = json.dumps([(writer.profile, writer.org) for writer in writers])
    command = [sys.executable, "-m", "tests.adversity.replica_process", url, who]
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**28)


async def trouble(database: Any, writers: list[Writer], networks: list[Chaos]) -> None:
    """Everything at once; in the middle of it PostgreSQL dies and comes back."""
    tasks = [asyncio.create_task(writer.work()) for writer in writers]
    tasks += [asyncio.create_task(network.storm(SEED + 100 + number)) for number, network in enumerate(networks)]
    tasks += [asyncio.create_task(dawdle(database.admin_url)), asyncio.create_task(trim(database.admin_url))]
    await asyncio.sleep(SECONDS / 2)
    await asyncio.to_thread(database.server.kill)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(database.server.start)
    await asyncio.sleep(SECONDS / 2)
    broken = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in broken:
        task.result()
    for writer in writers:
        await writer.connection.close()


async def trim(url: str) -> None:
    """Housekeeping that now and then takes the log away from under those who are behind."""
    while True:
        await asyncio.sleep(2)
        with contextlib.suppress(*GONE):
            async with connected(url) as connection:
                await connection.execute('SELECT "trim"(0, 30)')


async def finish(replica: Process, last: int) -> dict[str, Any]:
    output, _ = await asyncio.wait_for(replica.communicate(f"{last}\n".encode()), 60)
    assert replica.returncode == 0
    report: dict[str, Any] = json.loads(output)
    return report


async def counts_by_revision(connection: Any, writers: list[Writer]) -> dict[int, list[str]]:
    """What each writer's count was at each revision, by the revisions that the database stamped."""
    events = await connection.fetch(
        "SELECT revision, data->>'writer' AS writer, data->>'count' AS count FROM outbox_events ORDER BY revision"
    )
    told = {event["revision"]: (event["writer"], event["count"]) for event in events}
    assert len(told) == len(events)
    now, counts = {writer.name: "0" for writer in writers}, {}
    for revision in range(await head(connection) + 1):
        now.update([told[revision]] if revision in told else [])
        counts[revision] = list(now.values())
    return counts


def check(report: dict[str, Any], last: int, rows: dict[str, list[str]], counts: dict[int, list[str]]) -> None:
    steps = {kind: sum(step[0] == kind for step in report["story"]) for kind in ("all", "next")}
    print(
        f"{report['looks']} looks at {len(report['counts'])} revisions, {steps['next']} applied "
        f"({report['doorbells']} by doorbell), {report['resyncs']} read anew, {report['connections']} connections"
    )
    assert report["revision"] == last
    assert report["halves"] == 0
    reached = 0
    for kind, revision in report["story"]:
        assert revision == reached + 1 if kind == "next" else revision >= reached, "skipped, or applied twice"
        reached = revision
    for revision, seen in report["counts"].items():
        assert seen == counts[int(revision)], f"revision {revision} was shown as it never was"
    for relation, expected in rows.items():
        assert report["rows"][relation] == expected, relation
    assert report["looks"] > 1000
    assert steps["next"] > report["doorbells"], "nothing was read from the log"
    assert report["connections"] > 3
