"""Migration 0016 on an installation that has run without webhooks: what waited, what older control planes go on doing."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic import command

from control_plane.db.migrate import migrate
from tests.conftest import Database

UPGRADE = command.upgrade
WRITTEN_BEFORE = (
    "INSERT INTO catalyst.outbox_events (org_id, type, data) VALUES (NULL, 'org.updated', jsonb_build_object('id', %s::text))"
)
"""As control planes of before 0016 write events."""

Connection = psycopg.Connection[Any]


@pytest.fixture
def installation(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Connection, Connection]]:
    """Of the version 0015, then of the newest; the owner's connection, and a control plane's that was open all the while."""
    with monkeypatch.context() as older:
        older.setattr("alembic.command.upgrade", lambda config, _: UPGRADE(config, "0015"))
        migrate(empty_database.url("catalyst_migrate"))
    with (
        psycopg.connect(empty_database.url("catalyst_migrate"), autocommit=True) as owner,
        psycopg.connect(empty_database.url("catalyst_control"), autocommit=True) as control,
    ):
        assert owner.execute("SELECT version_num FROM catalyst.alembic_version").fetchone() == ("0015",)
        control.execute("SELECT set_config('catalyst.orgs', '*', false)")
        for number in range(3):
            control.execute(WRITTEN_BEFORE, [str(number)])
        migrate(empty_database.url("catalyst_migrate"))
        yield owner, control


def test_nobody_is_told_of_what_was_before_there_were_webhooks(installation: tuple[Connection, Connection]):
    owner, _ = installation
    assert owner.execute("SELECT count(*) FROM catalyst.outbox_events").fetchone() == (0,)


def test_an_older_control_plane_goes_on_writing_events_and_they_have_their_order(installation: tuple[Connection, Connection]):
    owner, control = installation
    owner.execute("INSERT INTO catalyst.webhooks (url, events, retry_schedule) VALUES ('https://x.example', '{*}', '{}')")
    heard: list[str] = []
    owner.execute("LISTEN catalyst_webhooks")
    owner.add_notify_handler(lambda notify: heard.append(notify.payload))
    for number in range(3):
        control.execute(WRITTEN_BEFORE, [str(number)])
    assert owner.execute("SELECT catalyst.fan_out(10)").fetchone() == (3,)
    told = owner.execute(
        "SELECT data ->> 'id' FROM catalyst.webhook_events JOIN catalyst.webhook_deliveries USING (position) ORDER BY position"
    )
    assert [number for (number,) in told] == ["0", "1", "2"]
    owner.execute("SELECT 1")
    assert heard == ["", "", "", "queues"]


def test_where_there_is_no_endpoint_no_bell_is_rung(installation: tuple[Connection, Connection]):
    """Commits that ring wait for one another (PostgreSQL manual, NOTIFY): who has no webhooks does not pay for them."""
    owner, control = installation
    heard: list[str] = []
    owner.execute("LISTEN catalyst_webhooks")
    owner.add_notify_handler(lambda notify: heard.append(notify.payload))
    control.execute(WRITTEN_BEFORE, ["x"])
    owner.execute("SELECT 1")
    assert heard == []
