"""What waits for endpoints, written and read as the owner of the database."""

from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID, uuid4

import psycopg

_COUNTED = """
    SELECT w.id, q.pending, q.retrying, q.dead,
           count(d.*) FILTER (WHERE d.status = 'pending'),
           count(d.*) FILTER (WHERE d.status = 'pending' AND d.attempts > 0),
           count(d.*) FILTER (WHERE d.status = 'dead')
    FROM catalyst.webhooks w
    JOIN catalyst.webhook_queues q ON q.webhook_id = w.id
    LEFT JOIN catalyst.webhook_deliveries d ON d.webhook_id = w.id
    GROUP BY w.id, q.webhook_id
"""


@dataclass
class Queues:
    """Use it in a `with`."""

    url: str
    connection: Any = field(init=False)
    position: int = 0

    def __enter__(self) -> Self:
        self.connection = psycopg.connect(self.url, autocommit=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def rows(self, query: str, *arguments: object) -> list[Any]:
        return self.connection.execute(query, arguments).fetchall()

    def execute(self, statement: str, *arguments: object) -> None:
        self.connection.execute(statement, arguments)

    def webhook(self, events: str = "*", *, org: UUID | None = None, age: str = "1 day", ordered: bool = False) -> UUID:
        """An endpoint that has been there for a while."""
        [(webhook,)] = self.rows(
            "INSERT INTO catalyst.webhooks (org_id, url, events, retry_schedule, ordered, created_at)"
            " VALUES (%s, 'https://hooks.example.com/', %s, '{5}', %s, now() - %s::interval) RETURNING id",
            *(org, [events], ordered, age),
        )
        return webhook

    def org(self, slug: str) -> UUID:
        [(org,)] = self.rows("INSERT INTO catalyst.orgs (slug, name) VALUES (%s, 'x') RETURNING id", slug)
        return org

    def event(
        self, kind: str = "grant.created", *, org: UUID | None = None, age: str = "1 hour", subject: UUID | None = None
    ) -> int:
        """An event that was fanned out; its position."""
        self.position += 1
        self.execute(
            "INSERT INTO catalyst.webhook_events (position, id, org_id, type, data, created_at)"
            " VALUES (%s, %s, %s, %s, jsonb_build_object('id', %s::text), now() - %s::interval)",
            *(self.position, uuid4(), org, kind, str(subject or uuid4()), age),
        )
        return self.position

    def delivery(self, webhook: UUID, position: int, status: str, attempts: int = 0) -> None:
        self.execute(
            "INSERT INTO catalyst.webhook_deliveries (webhook_id, position, status, attempts, next_attempt_at)"
            " VALUES (%s, %s, %s, %s, CASE WHEN %s = 'pending' THEN now() + interval '1 hour' END)",
            *(webhook, position, status, attempts, status),
        )

    def count(self) -> None:
        """Have the queues count what there is."""
        for webhook, _, _, _, *counted in self.rows(_COUNTED):
            self.execute(
                "UPDATE catalyst.webhook_queues SET pending = %s, retrying = %s, dead = %s WHERE webhook_id = %s",
                *counted,
                webhook,
            )

    def assert_counted(self) -> None:
        """What the queues count is what there is."""
        for webhook, *counted in self.rows(_COUNTED):
            assert counted[:3] == counted[3:], webhook

    def replay(self, webhook: UUID, which: str, **more: object) -> UUID:
        """Ask for a replay, as the control plane does."""
        names = ("since", "until", "event_id")
        replay = uuid4()
        self.execute(
            "INSERT INTO catalyst.webhook_replays (id, webhook_id, which, since, until, event_id) VALUES (%s, %s, %s, %s, %s, %s)",
            *(replay, webhook, which, *(more.get(name) for name in names)),
        )
        return replay

    def deliveries(self, webhook: UUID) -> dict[int, str]:
        """What is of each: its status; `again` where it is queued anew."""
        rows = self.rows(
            "SELECT position, status, attempts, next_attempt_at <= now(), replay_id FROM catalyst.webhook_deliveries"
            " WHERE webhook_id = %s ORDER BY position",
            webhook,
        )
        return {
            position: "again" if (status, attempts, due) == ("pending", 0, True) and replay else status
            for position, status, attempts, due, replay in rows
        }

    def progress(self, replay: UUID) -> tuple[int, int, bool]:
        """Total, queued, finished."""
        [row] = self.rows("SELECT total, queued, finished_at IS NOT NULL FROM catalyst.webhook_replays WHERE id = %s", replay)
        return row
