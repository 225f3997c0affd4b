"""A sidecar's replica in a process of its own, watched from within: `python -m tests.adversity.replica_process <url> <writers>`.

Reads one line on standard input, a revision; once that is reached, writes one JSON object with all it saw and ends.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

import uvloop

from sidecar.replica.feed import Feed, FeedSettings
from sidecar.replica.live import Replica
from sidecar.replica.state import State
from tests.adversity.dump import rows_of
from tests.adversity.scene import FAST, JWK

PAIR = {"pair:membership", "pair:group"}


class Recorded(Replica):
    """Writes down which revision was reached how: "all" for a full read, "next" for a transaction applied."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[tuple[str, int]] = []

    def take(self, state: State) -> State | None:
        self.story.append(("all", state.revision))
        return super().take(state)

    def applied(self, lag: float) -> None:
        self.story.append(("next", self.revision))
        super().applied(lag)


class Watch:
    """Looks at the state between any two turns of the loop."""

    def __init__(self, replica: Recorded, writers: list[tuple[str, str]]) -> None:
        self.replica = replica
        self.writers = writers
        self.looks = 0
        self.halves = 0
        self.counts: dict[int, list[str]] = {}

    async def look(self) -> None:
        while True:
            state = self.replica.state
            if state is not None:
                self.looks += 1
                self._look(state)
            await asyncio.sleep(0 if self.looks % 20 else 0.001)

    def _look(self, state: State) -> None:
        counts = []
        for profile_id, org_id in self.writers:
            profile, effective = state.profile(profile_id), state.effective(profile_id, org_id, time.time())
            if profile is None or effective is None:
                self.halves += 1
                continue
            counts.append(profile.labels.get("count", "0"))
            # Both or neither; an even count says neither, so that rights and count must be of the same moment too.
            wanted = PAIR if int(counts[-1]) % 2 else set()
            self.halves += effective.entitlements & PAIR != wanted
        known = self.counts.setdefault(state.revision, counts)
        self.halves += known != counts


async def main() -> None:
    url, writers = sys.argv[1], [(profile, org) for profile, org in json.loads(sys.argv[2])]
    replica = Recorded()
    feed = Feed(replica, FeedSettings(url, **FAST), JWK)
    watch = Watch(replica, writers)
    tasks = [asyncio.create_task(feed.run()), asyncio.create_task(watch.look())]
    last = int(await asyncio.to_thread(sys.stdin.readline))
    reached = asyncio.Event()
    replica.wait_for(last, reached.set)
    with suppress(TimeoutError):
        await asyncio.wait_for(reached.wait(), 0 if replica.revision >= last else 30)
    await asyncio.sleep(0.3)
    tasks[1].cancel()
    feed.stop()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].exception() is None
    print(json.dumps(report(replica, watch)))


def report(replica: Recorded, watch: Watch) -> dict[str, Any]:
    return {
        "revision": replica.revision,
        "story": replica.story,
        "rows": None if replica.state is None else rows_of(replica.state),
        "looks": watch.looks,
        "halves": watch.halves,
        "counts": watch.counts,
        "doorbells": replica.doorbells_applied,
        "connections": replica.connections,
        "resyncs": replica.resyncs,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
