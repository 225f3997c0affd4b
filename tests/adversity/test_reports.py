"""What sidecars tell, where the database does not want to hear it: the feed goes on, and what is lost is counted."""

import asyncio
import json
import logging
import shutil
from collections.abc import Coroutine
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from control_plane.db.migrate import migrate
from sidecar.identity.membership import Member
from sidecar.policy.model import ANONYMOUS, FOREVER, CanonicalRequest, Decision, Kind, Principal
from sidecar.replica.live import Replica
from sidecar.samples import Samples
from tests.adversity.scene import (
    POLICY,
    add_application,
    add_membership,
    add_org,
    add_profile,
    caught_up,
    connected,
    following,
    until,
)
from tests.conftest import Database

SIDECAR = "catalyst_sidecar"
NOBODY = Member(ANONYMOUS, FOREVER, ())
SHADOW = "INSERT INTO shadow_policies (application_id, etag, document) VALUES ($1, $2, $3)"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def decide(samples: Samples, replica: Replica, number: int, member: Member = NOBODY) -> None:
    """Note this many decisions."""
    assert replica.state is not None
    application = replica.state.application("shop.example.com")
    assert application is not None
    for each in range(number):
        request = CanonicalRequest("GET", "https", "shop.example.com", f"/{each}", (str(each),), ip_address("192.0.2.1"))
        samples.note(1e9 + each, application, replica.revision, request, member, Decision())


def test_reports_that_are_locked_out_cost_samples_and_nothing_else(database):
    async def story() -> None:
        async with connected(database.admin_url) as writer, connected(database.admin_url) as other:
            await add_application(writer, "shop", "shop.example.com")
            samples = Samples(10)
            async with following(database.url(SIDECAR), samples) as replica:
                async with other.transaction():
                    await other.execute("LOCK TABLE decisions")
                    decide(samples, replica, 15)
                    await until(lambda: samples.lost == 15)
                    await add_org(writer, "acme")
                    await caught_up(replica, writer)
                    assert (replica.connections, replica.status) == (1, "live")
                for kept in (3, 6):  # the second time, the counts of the first have been told
                    decide(samples, replica, 3)
                    await until(lambda kept=kept: samples.kept == kept)
                assert samples.lost == 15
                assert await writer.fetchval("SELECT lost FROM decision_counts") == 15
                assert await writer.fetchval("SELECT count(*) FROM decisions") == 6
                assert (replica.connections, replica.resyncs) == (1, 0)

    run(story())


SLOW = """
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END';
    CREATE TRIGGER slow BEFORE INSERT ON decisions EXECUTE FUNCTION public.slow()
"""


def test_reports_that_are_slow_are_cut_short(database):
    """Four statements of 0.15 s, where none is begun after 0.2 s: the feed has other things to do on its connection."""

    async def story() -> None:
        async with connected(database.admin_url) as writer:
            await add_application(writer, "shop", "shop.example.com")
            await writer.execute(SLOW)
            samples = Samples(100)
            async with following(database.url(SIDECAR), samples) as replica:
                decide(samples, replica, 100)
                await until(lambda: samples.kept + samples.lost == 100)
                assert samples.lost >= 25
                assert (replica.connections, replica.status) == (1, "live")

    run(story())


def test_what_was_erased_meanwhile_is_left_out_and_counted(database):
    async def story() -> None:
        async with connected(database.admin_url) as writer:
            await add_application(writer, "shop", "shop.example.com")
            org, profile = await add_org(writer, "acme"), await add_profile(writer)
            await add_membership(writer, org, profile)
            gone = Principal(Kind.SESSION, profile[:-4] + "dead", org_id=org)
            there = Principal(Kind.SESSION, profile, org_id=org)
            samples = Samples(10)
            async with following(database.url(SIDECAR), samples) as replica:
                decide(samples, replica, 2, Member(gone, FOREVER, ()))
                decide(samples, replica, 1, Member(there, FOREVER, ()))
                await until(lambda: samples.kept + samples.lost == 3)
                assert (samples.kept, samples.lost) == (1, 2)
                assert str(await writer.fetchval("SELECT profile_id FROM decisions")) == profile

    run(story())


def migrate_to(version: str, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrate with the files up to this one."""
    older = folder / "migrations"
    shutil.copytree(Path("control_plane/db/migrations").resolve(), older)
    for newer in (path for path in (older / "versions").glob("v*.py") if path.stem > version):
        newer.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("control_plane.db.migrate._FOLDER", older)
        migrate(database.url("catalyst_migrate"))


def test_a_database_of_before_is_served_without_shadows_and_samples(empty_database, tmp_path, monkeypatch, caplog):
    """Programs are upgraded after the database; who does it the other way round is told so, and loses no check."""
    migrate_to("v0005", empty_database, tmp_path, monkeypatch)

    async def story() -> None:
        async with connected(empty_database.admin_url) as writer:
            shop = await add_application(writer, "shop", "shop.example.com")
            samples = Samples(10)
            async with following(empty_database.url(SIDECAR), samples) as replica:
                for _ in range(3):
                    decide(samples, replica, 5, NOBODY._replace(api_key=7))
                    lost = samples.lost
                    await until(lambda lost=lost: samples.lost >= lost + 5)
                assert (replica.status, replica.connections) == ("live", 1)
                assert 7 in samples.uses
                await asyncio.to_thread(migrate, empty_database.url("catalyst_migrate"))
                await writer.execute(SHADOW, shop, "draft", json.dumps(POLICY))
                await caught_up(replica, writer)
                assert replica.state.application("shop.example.com").shadow.row.etag == "draft"
                decide(samples, replica, 5)
                await until(lambda: samples.kept == 5 and not samples.uses)

    caplog.set_level(logging.WARNING)
    run(story())
    told = [record.message for record in caplog.records if record.name.startswith("sidecar")]
    assert told == ["database older than this sidecar", *["report refused"] * 3]


def test_a_shadow_comes_and_goes_like_any_change(database, caplog):
    async def story() -> None:
        async with connected(database.admin_url) as writer:
            shop = await add_application(writer, "shop", "shop.example.com")
            other = await add_application(writer, "other", "other.example.com")
            await writer.execute(SHADOW, other, "out-of-scope", "{}")
            async with following(database.url(SIDECAR), applications=frozenset({"shop"})) as replica:
                application = replica.state.application("shop.example.com")
                for document, readable in (('{"version": 2}', False), (json.dumps(POLICY), True)):
                    stamp, policy = application.stamp, application.policy
                    await writer.execute("DELETE FROM shadow_policies WHERE application_id = $1", shop)
                    await writer.execute(SHADOW, shop, "draft", document)
                    await caught_up(replica, writer)
                    assert not stamp.valid
                    assert application.policy is policy
                    assert (application.shadow.policy is not None) is readable
                    assert bool(application.shadow.problem) is not readable
                await writer.execute("DELETE FROM shadow_policies")
                await caught_up(replica, writer)
                assert application.shadow is None
                assert (replica.resyncs, replica.status) == (0, "live")

    run(story())
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == ["shadow unreadable"]
