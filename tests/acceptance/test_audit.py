"""The audit log over HTTP and over the command line: found, exported, verified, vouched for, kept for so long and no longer."""

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from control_plane.audit import chain, denials, streams
from control_plane.audit.chain import verify
from control_plane.housekeeping import ROUNDS, House
from control_plane.last_use import LastUse
from control_plane.telemetry import Metrics
from tests.acceptance.command_line import Done, catalyst_here
from tests.acceptance.plane import Api, Plane, make_tenant, settings_for
from tests.acceptance.test_platform import with_pool


def exported(api: Api, **filters: Any) -> list[str]:
    answer = api.client.get("/v1/audit-events/export", params=filters)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.text
    return answer.text.splitlines()


def keys(api: Api) -> Any:
    return chain.read_keys(api.with_credential(None).get("/.well-known/audit-jwks.json"))


def checkpoint(api: Api) -> list[str]:
    api.post("/v1/audit-events/checkpoints")
    return [item["jws"] for item in api.get("/v1/audit-events/checkpoints", latest=True, limit=200)["items"]]


def rewrite(plane: Plane, statement: str) -> None:
    """What whoever owns the database can do."""
    plane.execute(f"ALTER TABLE catalyst.audit_events DISABLE TRIGGER ALL; {statement}")


# --- found ------------------------------------------------------------------------------------------------------------------------


def test_events_are_found_by_who_what_which_when_and_request(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:audit:read", "catalyst:groups:write"])
    headers = {"x-request-id": "ticket-4711"}
    group = tenant.api.call("POST", "/v1/orgs/acme/groups", 201, json={"slug": "team", "name": "Team"}, headers=headers)["id"]
    (event,) = admin.get("/v1/audit-events", request_id="ticket-4711")["items"]
    assert (event["type"], event["resource"], event["org"]) == ("group.created", group, tenant.id)
    assert event["actor"] == {"kind": "api_key", "id": event["actor"]["id"], "profile": tenant.profile}
    for filters in (
        {"actor": tenant.profile},
        {"actor": event["actor"]["id"]},
        {"type": "group.*", "org": tenant.id},
        {"type": "group.created", "resource": group},
        {"since": event["at"], "org": tenant.id},
    ):
        assert [found["id"] for found in admin.get("/v1/audit-events", **filters)["items"]] == [event["id"]], filters
        assert [json.loads(line)["id"] for line in exported(admin, **filters)] == [event["id"]], filters
    assert admin.get("/v1/audit-events", until=event["at"], org=tenant.id)["items"][0]["seq"] == event["seq"] - 1
    for wrong in ("group", "group.", "*", "*.created", "Group.created"):
        assert admin.get("/v1/audit-events", 422, type=wrong)["errors"][0]["field"] == "type"


def test_each_event_follows_from_the_one_before_in_its_org(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:audit:read"])
    make_tenant(admin, "other", [])
    events = tenant.api.get("/v1/audit-events")["items"][::-1]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["previous"] for event in events] == [chain.START, *(event["hash"] for event in events[:-1])]


# --- exported and verified --------------------------------------------------------------------------------------------------------


def test_an_export_verifies_offline_and_is_the_callers_reach(admin: Api, own_admin: Api) -> None:
    tenant = make_tenant(own_admin, "acme", ["catalyst:audit:read"])
    report = verify(exported(own_admin), checkpoint(own_admin), keys(own_admin))
    assert (report.broken, report.chains, report.checkpoints, report.signatures) == (None, 3, 3, True)
    theirs = verify(exported(tenant.api), checkpoint(tenant.api), keys(own_admin))
    assert (theirs.broken, theirs.chains, theirs.events, theirs.checkpoints) == (None, 1, 4, 1)
    assert own_admin.get("/v1/audit-events/verify") == {
        "holds": True,
        "events": report.events,
        "chains": 3,
        "checkpoints": 3,
        "broken": None,
    }
    # Of another control plane, nothing agrees.
    found = verify(exported(own_admin), checkpoint(own_admin), keys(admin)).broken
    assert found is not None
    assert found.problem == "signature"


@pytest.mark.parametrize(
    ("statement", "problem", "seq"),
    [
        ("UPDATE catalyst.audit_events SET actor_id = 'x' WHERE org_id = '{org}' AND seq = 3", "hash", 3),
        ("UPDATE catalyst.audit_events SET address = '192.0.2.1' WHERE org_id = '{org}' AND seq = 2", "commitment", 2),
        ("DELETE FROM catalyst.audit_events WHERE org_id = '{org}' AND seq = 2", "gap", 3),
        ("DELETE FROM catalyst.audit_events WHERE org_id = '{org}' AND seq = 4", "tail", 3),
        ("DELETE FROM catalyst.audit_events WHERE org_id = '{org}'", "tail", 0),
        ("UPDATE catalyst.audit_chains SET seq = 3 WHERE org_id = '{org}'", "tail", 4),
    ],
)
def test_what_a_superuser_did_is_found_by_the_control_plane(
    own_admin: Api, own_plane: Plane, statement: str, problem: str, seq: int
) -> None:
    org = make_tenant(own_admin, "acme", ["catalyst:audit:read"]).id
    rewrite(own_plane, statement.format(org=org))
    found = own_admin.get("/v1/audit-events/verify")
    assert found["holds"] is False
    assert (found["broken"]["chain"], found["broken"]["problem"], found["broken"]["seq"]) == (org, problem, seq)


def test_a_stored_checkpoint_that_was_changed_is_found(own_admin: Api, own_plane: Plane) -> None:
    checkpoint(own_admin)
    own_plane.execute("UPDATE catalyst.audit_checkpoints SET jws = jws || 'x' WHERE id = 1")
    assert own_admin.get("/v1/audit-events/verify")["broken"]["problem"] == "signature"


def test_a_long_export_streams_while_the_database_has_moved_on(own_admin: Api, own_plane: Plane) -> None:
    """In memory that does not grow with it: what the reader does not take waits in the database."""
    own_plane.execute(
        "INSERT INTO catalyst.audit_pending (type, actor_kind, actor_id, resource_id, after)"
        " SELECT 'thing.updated', 'system', 's', n::text, jsonb_build_object('text', repeat('x', 1000)) FROM generate_series(1, 10000) AS n"
    )
    with own_admin.client.stream("GET", "/v1/audit-events/export?type=thing.updated") as answer:
        lines = answer.iter_lines()
        first = next(lines)
        own_admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
        assert own_plane.streams_running() == 1
        rest = list(lines)
    assert len(rest) == 9_999
    assert json.loads(first)["resource"] == "1"
    assert verify([first, *rest], part=True).events == 10_000


def test_only_so_many_exports_at_a_time(own_admin: Api, own_plane: Plane) -> None:
    own_plane.execute(
        "INSERT INTO catalyst.audit_pending (type, actor_kind, actor_id, resource_id, after)"
        " SELECT 'thing.updated', 'system', 's', 'r', jsonb_build_object('text', repeat('x', 1000)) FROM generate_series(1, 10000)"
    )
    open_ones = [httpx2.Client(base_url=own_admin.url, headers=own_admin.client.headers) for _ in range(streams.AT_ONCE)]
    answers = [client.send(client.build_request("GET", "/v1/audit-events/export"), stream=True) for client in open_ones]
    try:
        # Kept: a reader that is forgotten has gone away.
        readers = [answer.iter_lines() for answer in answers]
        assert all(next(reader) for reader in readers)
        assert own_admin.get("/v1/audit-events/export", 503)["code"] == "try_again"
        assert own_admin.get("/v1/audit-events/verify", 503)["code"] == "try_again"
    finally:
        for answer, client in zip(answers, open_ones, strict=True):
            answer.close()
            client.close()
    until = time.monotonic() + 20
    while own_plane.streams_running() and time.monotonic() < until:
        time.sleep(0.05)
    assert own_admin.get("/v1/audit-events/verify")["holds"]


# --- checkpoints, retention ---------------------------------------------------------------------------------------------------------


def housekeeping(plane: Plane, **settings: str) -> None:
    chosen = settings_for(plane.settings.database_url, **settings)
    (work,) = (one.work for one in ROUNDS if one.name == "audit_log")
    with_pool(plane, lambda pool: work(House(pool, chosen, Metrics(), LastUse())))


def test_checkpoints_are_made_of_chains_that_moved_and_not_too_often(own_admin: Api, own_plane: Plane) -> None:
    def count() -> int:
        return len(own_admin.get("/v1/audit-events/checkpoints", limit=200)["items"])

    housekeeping(own_plane)
    assert count() == 2
    housekeeping(own_plane)
    assert count() == 2
    own_admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    housekeeping(own_plane)
    assert count() == 3
    own_plane.execute("UPDATE catalyst.audit_checkpoints SET created_at = now() - interval '61 minutes'")
    own_admin.patch("/v1/orgs/acme", {"name": "Acme Ltd"})
    housekeeping(own_plane)
    assert count() == 4
    assert own_admin.post("/v1/audit-events/checkpoints")["made"] == 0
    assert own_admin.get("/v1/audit-events/checkpoints", latest=True)["items"][0]["seq"] == 2
    assert own_admin.last_event()["type"] == "org.updated"


MONTHS_AGO = """
    INSERT INTO catalyst.audit_pending (at, org_id, type, actor_kind, actor_id, resource_id)
    SELECT now() - interval '{days} days', org, 'thing.updated', 'system', 's', n::text
    FROM generate_series(1, 3) AS n, unnest(ARRAY[NULL, '0b0f6a3e-5a44-4f0e-8b0d-0d2b1c7a9e11']::uuid[]) AS org
"""


def test_retention_drops_whole_months_and_the_rest_verifies_from_there(database: Any) -> None:
    """Old events first: in a database of before any other."""
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        for days in (150, 100):
            owner.execute(MONTHS_AGO.format(days=days))
        # Nobody had made partitions for then.
        assert owner.execute("SELECT count(*) FROM catalyst.audit_events_rest").fetchone() == (12,)
    with Plane(database.url("catalyst_control")) as plane:
        api = Api(plane.url, plane.administrator.api_key)
        before, kept = exported(api), checkpoint(api)
        housekeeping(plane)
        assert len(exported(api)) == len(before)
        housekeeping(plane, CATALYST_AUDIT_KEEP_DAYS="31")
        dropped = api.last_event()
        assert (dropped["type"], dropped["before"]["events"], dropped["org"]) == ("audit_log.dropped", 12, None)
        after = exported(api)
        anchors = [line for line in after if '"checkpoint"' in line]
        assert len(anchors) == 2
        events = [json.loads(line) for line in after if '"checkpoint"' not in line]
        assert {event["seq"] for event in events if event["org"] is None} == set(
            range(7, 7 + sum(e["org"] is None for e in events))
        )
        assert verify(after, checkpoint(api), keys(api)).broken is None
        assert verify(after, kept, keys(api)).broken is None
        assert api.get("/v1/audit-events/verify")["holds"]
        found = verify(after).broken
        assert found is not None
        assert found.problem == "beginning"
        # Nor does the chain that is gone as a whole begin anew.
        with psycopg.connect(database.admin_url, autocommit=True) as owner:
            owner.execute(MONTHS_AGO.format(days=0))
        assert api.get("/v1/audit-events/verify")["holds"]
        assert verify(exported(api), checkpoint(api), keys(api)).broken is None
        api.close()


def test_no_month_is_dropped_without_a_signed_end_nor_too_young(own_plane: Plane) -> None:
    with psycopg.connect(own_plane.settings.database_url, autocommit=True) as control:
        control.execute("SET catalyst.orgs = '*'")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="four weeks"):
            control.execute("SELECT catalyst.drop_audit_events(now() - interval '27 days')")
        own_plane.execute(MONTHS_AGO.format(days=100))
        own_plane.execute("SELECT catalyst.make_audit_partitions()")
        (until,) = control.execute("SELECT min(until) FROM catalyst.audit_partitions").fetchone()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot go on"):
            control.execute("SELECT catalyst.drop_audit_events(%s)", [until])


def test_partitions_are_made_ahead_and_what_came_without_one_gets_its_own(own_plane: Plane, database: Any) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as owner:

        def bounds() -> list[Any]:
            return owner.execute("SELECT first, until FROM catalyst.audit_partitions ORDER BY first").fetchall()

        made = bounds()
        assert len(made) == 4
        assert all(one[1] == following[0] for one, following in pairwise(made))
        owner.execute(MONTHS_AGO.format(days=-400))
        housekeeping(own_plane)
        assert len(bounds()) == 5
        assert owner.execute("SELECT count(*) FROM catalyst.audit_events_rest").fetchone() == (0,)
        for statement in ("TRUNCATE catalyst.audit_events_rest", f"TRUNCATE catalyst.audit_events_{bounds()[-1][0]:%Y_%m}"):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                owner.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute("DELETE FROM catalyst.audit_events")


# --- refused ------------------------------------------------------------------------------------------------------------------------


def denied(api: Api) -> list[Any]:
    found: list[Any] = api.get("/v1/audit-events", type="access.denied", limit=200)["items"]
    return found


def test_who_is_refused_leaves_an_event_in_their_orgs_chain(own_admin: Api) -> None:
    tenant = make_tenant(own_admin, "acme", ["catalyst:audit:read", "catalyst:grants:write"])
    tenant.api.get("/v1/orgs/acme", 403)
    subject = {"kind": "org", "id": "acme"}
    tenant.api.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "catalyst:orgs:write"}, 403)
    escalation, plain = denied(tenant.api)
    assert plain["resource"] == "GET /v1/orgs/{org}"
    assert plain["after"] == {"permission": "catalyst:orgs:read", "code": "permission_denied"}
    assert plain["actor"]["profile"] == tenant.profile
    assert (escalation["resource"], escalation["after"]["code"]) == ("POST /v1/grants", "escalation_refused")
    assert own_admin.get("/v1/audit-events/verify")["holds"]
    # One who is known and admitted nowhere, too.
    own_admin.patch(f"/v1/profiles/{tenant.profile}", {"status": "suspended"})
    tenant.api.get("/v1/audit-events", 403)
    assert denied(own_admin)[0]["after"] == {"permission": "catalyst:audit:read", "code": "profile_suspended"}
    assert denied(own_admin)[0]["org"] == tenant.id


def count_of(plane: Plane, name: str, **labels: str) -> float:
    return plane.metrics.registry.get_sample_value(name, labels) or 0.0


def test_an_actor_leaves_so_many_events_a_minute_and_the_rest_is_counted(own_admin: Api, own_plane: Plane) -> None:
    tenant = make_tenant(own_admin, "acme", [])
    other = make_tenant(own_admin, "other", [])
    for _ in range(denials.A_MINUTE + 5):
        tenant.api.get("/v1/orgs", 403)
    other.api.get("/v1/orgs", 403)
    assert len(denied(own_admin)) == denials.A_MINUTE + 1
    assert count_of(own_plane, "access_denied_total", recorded="left_out") == 5
    assert count_of(own_plane, "access_denied_total", recorded="event") == denials.A_MINUTE + 1


def test_strangers_are_counted_and_leave_nothing(own_admin: Api, own_plane: Plane) -> None:
    before = own_admin.last_event()["id"]
    own_admin.with_credential(None).get("/v1/orgs", 401)
    own_admin.with_credential("cak_nonsense").get("/v1/orgs", 401)
    assert own_admin.last_event()["id"] == before
    assert count_of(own_plane, "authentication_failures_total", reason="missing_credentials") == 1
    assert count_of(own_plane, "authentication_failures_total", reason="invalid_api_key") == 1


def test_a_refusal_that_cannot_be_recorded_is_a_refusal_all_the_same(own_admin: Api, own_plane: Plane) -> None:
    tenant = make_tenant(own_admin, "acme", [])
    own_plane.execute("REVOKE INSERT ON catalyst.audit_pending FROM catalyst_control")
    for columns in ("org_id, type, actor_kind, actor_id, actor_profile, resource_id, before, after, request_id, address",):
        own_plane.execute(f"REVOKE INSERT ({columns}) ON catalyst.audit_pending FROM catalyst_control")
    assert tenant.api.get("/v1/orgs", 403)["code"] == "permission_denied"
    assert count_of(own_plane, "access_denied_total", recorded="failed") == 1


# --- the command line ---------------------------------------------------------------------------------------------------------------


def run(api: Api, *arguments: str) -> Done:
    return catalyst_here("audit", *arguments, CATALYST_URL=api.url, CATALYST_API_KEY=str(api.credential))


def test_the_command_line_exports_and_verifies_and_names_what_is_broken(own_admin: Api, own_plane: Plane, tmp_path: Path) -> None:
    org = make_tenant(own_admin, "acme", ["catalyst:audit:read"]).id
    log, kept, key = (str(tmp_path / name) for name in ("log.ndjson", "kept", "keys.json"))
    done = run(own_admin, "checkpoint")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr
    Path(kept).write_text(done.stdout)
    Path(key).write_text(own_admin.with_credential(None).client.get("/.well-known/audit-jwks.json").text)
    assert run(own_admin, "export", log).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "keys.json", "log.ndjson"]

    def verified(*arguments: str) -> Any:
        done = catalyst_here("audit", "verify", *arguments, "--json")
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    code, found = verified(log, "--checkpoint", kept, "--key", key)
    assert (code, found["holds"], found["chains"], found["checkpoints"], found["signatures"]) == (0, True, 3, 3, True)
    assert verified(log, "--checkpoint", kept, "--key", f"{own_admin.url}/.well-known/audit-jwks.json")[1] == found
    assert verified(log)[1]["signatures"] is None
    plain = catalyst_here("audit", "verify", log, "--checkpoint", kept)
    assert "38 events in 3 chains hold; 3 checkpoints agree." in plain.stdout
    assert "--key" in plain.stdout
    assert run(own_admin, "verify").returncode == 0

    rewrite(own_plane, f"UPDATE catalyst.audit_events SET actor_id = 'x' WHERE org_id = '{org}' AND seq = 2")
    assert run(own_admin, "export", log).returncode == 0
    code, found = verified(log, "--checkpoint", kept, "--key", key)
    assert (code, found["broken"]["chain"], found["broken"]["seq"], found["broken"]["problem"]) == (1, org, 2, "hash")
    plain = catalyst_here("audit", "verify", log)
    assert plain.returncode == 1
    assert plain.stdout.startswith(f"chain {org}, event 2 (id ")
    assert run(own_admin, "verify").returncode == 1

    part = run(own_admin, "export", "--org", "acme", "--type", "grant.*")
    assert [json.loads(line)["type"] for line in part.stdout.splitlines()] == ["grant.created"]
    Path(log).write_text(part.stdout)
    assert verified(log)[0] == 1
    assert verified(log, "--part")[0] == 0


def test_the_command_line_lists(own_admin: Api) -> None:
    make_tenant(own_admin, "acme", [])
    listed = json.loads(run(own_admin, "list", "--org", "acme", "--limit", "2", "--json").stdout)
    assert [event["type"] for event in listed] == ["api_key.created", "membership.created"]
    shown = run(own_admin, "list", "--type", "org.created").stdout
    assert "org.created" in shown
    assert "api_key" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verify", "/nowhere/log"), "/nowhere/log"),
        (("verify", "LOG", "--checkpoint", "/nowhere/kept"), "/nowhere/kept"),
        (("verify", "LOG", "--key", "LOG"), "audit-jwks.json"),
        (("verify", "LOG", "--key", "http://127.0.0.1:9/"), "no answer"),
        (("export",), "CATALYST_API_KEY is not set"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    log = tmp_path / "log"
    log.write_text("")
    done = catalyst_here("audit", *(str(log) if argument == "LOG" else argument for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
