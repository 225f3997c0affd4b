"""Events as changes write them: rows of the outbox, in many transactions, by the control plane's role."""

import json
import time

import psycopg

_KINDS = ("grant.created", "grant.deleted", "group.updated", "membership.created", "role.updated")
_THINGS = 1_000
_OF_ONE_CHANGE = 20
_WRITE = "INSERT INTO catalyst.outbox_events (org_id, type, data) VALUES (%s, %s, %s)"


class Author:
    """Writes events of one org, each about one of so many things."""

    def __init__(self, url: str, org: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.org = org
        self.written = 0

    def pace(self, events: int, seconds: float) -> None:
        """So many changes of one event each, evenly over the time."""
        begin = time.monotonic()
        for number in range(events):
            time.sleep(max(0.0, begin + seconds * number / events - time.monotonic()))
            self.change(1)

    def burst(self, events: int) -> None:
        """As fast as they commit, twenty a transaction."""
        end = self.written + events
        while self.written < end:
            self.change(min(_OF_ONE_CHANGE, end - self.written))

    def change(self, events: int) -> float:
        """One transaction; when its COMMIT was sent (seconds since 1970)."""
        numbers = range(self.written, self.written + events)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute("SELECT set_config('catalyst.orgs', '*', true)")
            cursor.executemany(_WRITE, [(self.org, _KINDS[number % len(_KINDS)], self.data(number)) for number in numbers])
            committing = time.time()
        self.written += events
        return committing

    def data(self, number: int) -> str:
        """What such an event tells: of which thing, before and after."""
        thing = f"00000000-0000-4000-8000-{number % _THINGS:012d}"
        facts = {"entitlement": f"orders:{number}", "subject": "00000000-0000-4000-8000-0123456789ab", "expires_at": None}
        return json.dumps({"id": thing, "org": self.org, "before": None, "after": facts})

    def close(self) -> None:
        """No more."""
        self.connection.close()
