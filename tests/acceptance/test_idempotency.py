"""`Idempotency-Key`: one change, one answer, however often it is asked for."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from control_plane.db.pool import create_pool
from control_plane.housekeeping import House, tidy
from control_plane.last_use import LastUse
from control_plane.permissions import Permission
from control_plane.telemetry import Metrics
from tests.acceptance.plane import Api, Plane, make_tenant

ORG = {"slug": "acme", "name": "Acme"}


def send(api: Api, key: str, method: str = "POST", path: str = "/v1/orgs", body: Any = ORG, **headers: str) -> Any:
    return api.client.request(method, path, json=body, headers={"idempotency-key": key, **headers})


def test_a_repeat_is_answered_byte_for_byte_and_changes_nothing(admin: Api) -> None:
    first = send(admin, "a")
    event, revision = admin.last_event(), admin.revision()
    again = send(admin, "a")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("content-type", "etag", "x-catalyst-revision"):
        assert again.headers[name] == first.headers[name]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert (admin.last_event(), admin.revision()) == (event, revision)


def test_every_method_takes_a_key(admin: Api) -> None:
    admin.post("/v1/orgs", ORG)
    profile = admin.post("/v1/profiles", {})["id"]
    key = {"profile": profile, "org": "acme", "name": "ci"}
    admin.post("/v1/orgs/acme/memberships", {"profile": profile})
    secret = send(admin, "b", "POST", "/v1/api-keys", key)
    assert send(admin, "b", "POST", "/v1/api-keys", key).json()["secret"] == secret.json()["secret"]
    renamed = send(admin, "c", "PATCH", "/v1/orgs/acme", {"name": "New"})
    admin.patch("/v1/orgs/acme", {"name": "Newer"})
    assert send(admin, "c", "PATCH", "/v1/orgs/acme", {"name": "New"}).content == renamed.content
    assert admin.get("/v1/orgs/acme")["name"] == "Newer"
    for _ in range(2):
        gone = send(admin, "d", "DELETE", "/v1/orgs/acme", None)
        assert (gone.status_code, gone.content) == (204, b"")
    assert gone.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/orgs", {"slug": "acme", "name": "Other"}),
        ("POST", "/v1/profiles", {}),
        ("PATCH", "/v1/orgs/acme", {"name": "Acme"}),
    ],
)
def test_a_key_is_for_one_request_only(admin: Api, method: str, path: str, body: Any) -> None:
    send(admin, "a")
    revision = admin.revision()
    answer = send(admin, "a", method, path, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert answer.json()["errors"][0]["field"] == "idempotency-key"
    assert admin.revision() == revision


def test_refused_requests_leave_the_key_free(admin: Api) -> None:
    admin.post("/v1/orgs", ORG)
    assert send(admin, "a").json()["code"] == "slug_taken"
    assert send(admin, "a", body={"slug": "-"}).status_code == 422
    assert send(admin, "a", body={"slug": "other", "name": "Other"}).status_code == 201


def test_callers_do_not_see_each_others_answers(admin: Api) -> None:
    secrets = []
    for slug in ("one", "two"):
        tenant = make_tenant(admin, slug, [str(permission) for permission in Permission])
        body = {"profile": tenant.profile, "org": slug, "name": "ci"}
        secrets.append(send(tenant.api, "same", "POST", "/v1/api-keys", body).json()["secret"])
    assert len(set(secrets)) == 2


def test_one_person_in_two_orgs_is_two_callers(admin: Api) -> None:
    """What a session of one org was answered is not for a session of another."""
    person = admin.post("/v1/profiles", {})["id"]
    answers = []
    for slug in ("one", "two"):
        admin.post("/v1/orgs", {"slug": slug, "name": slug})
        membership = admin.post(f"/v1/orgs/{slug}/memberships", {"profile": person})["id"]
        subject = {"kind": "membership", "id": membership}
        admin.post("/v1/grants", {"org": slug, "subject": subject, "entitlement": "catalyst:grants:write"})
        token = admin.post("/v1/sessions", {"profile": person, "org": slug})["token"]
        grant = {"org": "one", "subject": {"kind": "org", "id": "one"}, "entitlement": "a:b"}
        answers.append(send(admin.with_credential(token), "same", "POST", "/v1/grants", grant).status_code)
    assert answers == [201, 422]


def test_without_the_permission_there_is_no_repeat_either(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:roles:write"])
    role = {"slug": "buyer", "name": "Buyer"}
    assert send(tenant.api, "a", "POST", "/v1/orgs/acme/roles", role).status_code == 201
    (grant,) = admin.get("/v1/grants", org="acme")["items"]
    admin.delete(f"/v1/grants/{grant['id']}")
    assert send(tenant.api, "a", "POST", "/v1/orgs/acme/roles", role).status_code == 403


def test_twenty_at_once_make_one_thing(admin: Api) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: send(admin, "a"), range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len([event for event in admin.get("/v1/audit-events")["items"] if event["type"] == "org.created"]) >= 1
    assert len(admin.get("/v1/audit-events", resource=answers[0].json()["id"])["items"]) == 1


def test_an_answer_that_nobody_waited_for_is_there_later(admin: Api, plane: Plane) -> None:
    """The client goes away as soon as it has sent its request."""
    address = urlsplit(plane.url)
    body = b'{"slug":"acme","name":"Acme"}'
    head = (
        f"POST /v1/orgs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {plane.administrator.api_key}\r\nidempotency-key: a\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head.encode() + body)
    while not (found := [org for org in admin.get("/v1/orgs")["items"] if org["slug"] == "acme"]):
        time.sleep(0.01)
    answer = send(admin, "a")
    assert (answer.status_code, answer.json()["id"], answer.headers["idempotent-replayed"]) == (201, found[0]["id"], "true")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", '"open', '"a" "b"', "é"])
def test_a_key_that_is_none_is_refused(admin: Api, key: str) -> None:
    answer = admin.client.post("/v1/orgs", json=ORG, headers=[(b"idempotency-key", key.encode())])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_idempotency_key")


def test_two_keys_are_refused_and_a_quoted_key_is_the_same_as_a_bare_one(admin: Api) -> None:
    answer = admin.client.post("/v1/orgs", json=ORG, headers=[("idempotency-key", "a"), ("idempotency-key", "a")])
    assert answer.json()["code"] == "malformed_idempotency_key"
    assert send(admin, '"a \\"b\\""').content == send(admin, 'a "b"').content


async def tidied(plane: Plane) -> None:
    pool = await create_pool(plane.settings.database_url, "catalyst_control", size=1)
    try:
        await tidy(House(pool, plane.settings, Metrics(), LastUse()))
    finally:
        await pool.close()


def test_after_a_day_a_key_is_free_and_housekeeping_forgets_it(admin: Api, plane: Plane) -> None:
    def keys() -> int:
        with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
            row = connection.execute("SELECT count(*) FROM catalyst.idempotency_keys").fetchone()
        return int(row[0]) if row else -1

    plane.execute("DELETE FROM catalyst.idempotency_keys")
    send(admin, "a")
    plane.execute("UPDATE catalyst.idempotency_keys SET created_at = now() - interval '25 hours'")
    assert send(admin, "a").json()["code"] == "slug_taken"
    assert send(admin, "a", body={"slug": "other", "name": "Other"}).status_code == 201
    assert keys() == 1
    plane.execute("UPDATE catalyst.idempotency_keys SET created_at = now() - interval '25 hours'")
    asyncio.run(tidied(plane))
    assert keys() == 0


def test_neither_key_nor_answer_is_stored_in_clear(admin: Api, plane: Plane) -> None:
    profile = admin.post("/v1/profiles", {"email": "canary@example.com"})["id"]
    admin.post("/v1/orgs", ORG)
    admin.post("/v1/orgs/acme/memberships", {"profile": profile})
    canary = f"canary-{uuid4()}"
    answer = send(admin, canary, "POST", "/v1/api-keys", {"profile": profile, "org": "acme", "name": canary}).json()
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        rows = connection.execute("SELECT * FROM catalyst.idempotency_keys").fetchall()
    stored = b"".join(value for row in rows for value in row if isinstance(value, bytes))
    for secret in (canary, answer["secret"], answer["id"], "POST", "api-keys"):
        assert secret.encode() not in stored
        assert secret.encode().hex() not in str(rows)


def test_an_answer_under_a_secret_key_that_is_gone_is_not_made_up(admin: Api, plane: Plane) -> None:
    send(admin, "a")
    plane.execute("UPDATE catalyst.idempotency_keys SET answer = 'x'")
    answer = send(admin, "a")
    assert (answer.status_code, answer.json()["code"]) == (409, "answer_lost")
