"""What a webhook signs with, and the test that is sent with it: to a receiver, over HTTP, verified by the public library."""

import asyncio
import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from control_plane.db.pool import create_pool
from control_plane.housekeeping import House, tidy
from control_plane.last_use import LastUse
from control_plane.telemetry import Metrics
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant
from tests.protocol.authority import Authority
from tests.webhooks.answers import Answer
from tests.webhooks.receiver import Arrival, Receiver

PATH = "/v1/webhooks"
BOTH = ["catalyst:webhooks:read", "catalyst:webhooks:write"]


@pytest.fixture(autouse=True)
def acme(plane: Plane, admin: Api) -> Iterator[Tenant]:
    """An org whose administrator may read and write webhooks, and nothing else."""
    yield make_tenant(admin, "acme", BOTH)
    plane.app.state.webhook_tests._left.clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def verifies(secret: str, arrival: Arrival) -> bool:
    try:
        Webhook(secret).verify(arrival.body.decode(), arrival.headers)
    except WebhookVerificationError:
        return False
    return True


def made_at(receiver: Receiver, api: Api, **more: Any) -> Any:
    return api.post(PATH, {"url": f"{receiver.url}/in?token=t0ken", "events": ["*"], **more})


def sent(api: Api, webhook: Any, receiver: Receiver) -> Arrival:
    """A test that is delivered, as it arrived."""
    said = api.post(f"{PATH}/{webhook['id']}/test", status=200)
    assert said["delivered"], said
    arrival = receiver.arrivals("/in")[-1]
    assert arrival.id == said["id"]
    return arrival


def test_a_test_is_sent_at_once_and_the_public_library_takes_it(admin: Api, acme: Tenant, receiver: Receiver) -> None:
    receiver.answer("/in", Answer(202, body="Thank you.\n"))
    made = made_at(receiver, acme.api, headers={"Authorization": "Bearer s3cret"}, payload="thin")
    acme.api.patch(f"{PATH}/{made['id']}", {"status": "paused"})
    said = acme.api.post(f"{PATH}/{made['id']}/test", status=200)
    assert said | {"id": "", "milliseconds": 0} == {
        "id": "",
        "delivered": True,
        "status": 202,
        "milliseconds": 0,
        "error": None,
        "answer": "Thank you. ",
    }
    (arrival,) = receiver.arrivals("/in")
    assert (arrival.method, arrival.target) == ("POST", "/in?token=t0ken")
    assert arrival.headers["authorization"] == "Bearer s3cret"
    assert verifies(made["secret"], arrival)
    assert arrival.event["type"] == "webhook.test"
    assert (arrival.event["revision"], arrival.event["data"]) == (None, {"id": made["id"], "org": acme.id})
    event = admin.last_event()
    assert (event["type"], event["resource"]) == ("webhook.tested", made["id"])
    assert event["after"] == {"delivered": True, "status": 202, "error": None}


def test_a_test_says_what_went_wrong(admin: Api, acme: Tenant, receiver: Receiver) -> None:
    made = made_at(receiver, acme.api)

    def error() -> tuple[bool, int | None, str]:
        said = acme.api.post(f"{PATH}/{made['id']}/test", status=200)
        return said["delivered"], said["status"], said["error"]

    receiver.answer("/in", Answer(500), Answer(302, {"location": "http://127.0.0.1:9/"}), Answer(410), Answer(drop=True))
    assert [error() for _ in range(4)] == [
        *((False, 500, "status"), (False, 302, "redirect"), (False, 410, "status"), (False, None, "bad_answer")),
    ]
    assert admin.last_event()["after"] == {"delivered": False, "status": None, "error": "bad_answer"}
    # A test is the administrator's: whatever comes of it, it does not disable the endpoint.
    assert acme.api.get(f"{PATH}/{made['id']}")["status"] == "active"
    acme.api.patch(f"{PATH}/{made['id']}", {"url": "https://no-such-host.invalid/"})
    assert error() == (False, None, "name_unknown")


def test_tests_are_no_way_to_send_a_lot(acme: Tenant, receiver: Receiver) -> None:
    made, other = made_at(receiver, acme.api), made_at(receiver, acme.api)
    for _ in range(10):
        sent(acme.api, made, receiver)
    refused = acme.api.client.post(f"{PATH}/{made['id']}/test")
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "too_many_tests", "60")
    sent(acme.api, other, receiver)
    assert receiver.counts("/in").arrived == 11


def test_tests_of_one_org_leave_some_to_others(admin: Api, acme: Tenant, receiver: Receiver) -> None:
    for one in [made_at(receiver, acme.api) for _ in range(4)]:
        for _ in range(10):
            sent(acme.api, one, receiver)
    refused = acme.api.client.post(f"{PATH}/{made_at(receiver, acme.api)['id']}/test")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_tests")
    sent(admin, made_at(receiver, admin, org=None), receiver)


def test_no_connection_to_the_database_is_held_while_a_receiver_takes_its_time(
    plane: Plane, admin: Api, acme: Tenant, receiver: Receiver
) -> None:
    """As many tests as there are connections, and more: everything else is answered meanwhile."""
    receiver.answer("/in", Answer(hang=True))
    made = [made_at(receiver, acme.api, timeout_seconds=2) for _ in range(plane.settings.connections + 2)]

    async def main() -> list[Any]:
        async with httpx2.AsyncClient(base_url=plane.url, headers=dict(acme.api.client.headers), timeout=20) as client:
            tests = [asyncio.create_task(client.post(f"{PATH}/{one['id']}/test")) for one in made]
            await asyncio.to_thread(receiver.wait_for, "/in", len(made))
            assert (await client.get(PATH)).status_code == 200
            assert not any(test.done() for test in tests)
            return [answer.json()["error"] for answer in await asyncio.gather(*tests)]

    assert asyncio.run(main()) == ["timeout"] * len(made)


def test_both_sides_show_a_certificate(acme: Tenant, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (certificate, key), (own, own_key) = (map(Path, authority.issue(name)) for name in ("receiver", "catalyst"))
    with Receiver(certificate=certificate, key=key, client_ca=Path(authority.path)) as receiver:
        shown = {"client_certificate": own.read_text(), "client_key": own_key.read_text()}
        made = acme.api.post(
            PATH,
            {"url": f"https://localhost:{receiver.port}/in", "events": ["*"], "ca_bundle": Path(authority.path).read_text()}
            | shown,
        )
        assert sent(acme.api, made, receiver).peer == "catalyst"
        acme.api.patch(f"{PATH}/{made['id']}", {"client_certificate": None})
        assert not acme.api.post(f"{PATH}/{made['id']}/test", status=200)["delivered"]


def test_earlier_secrets_sign_beside_the_new_one_until_their_time_is_over(
    plane: Plane, admin: Api, acme: Tenant, receiver: Receiver
) -> None:
    made = made_at(receiver, acme.api, signatures=["v1", "v1a"])
    assert made["public_key"].startswith("whpk_")
    secrets, keys = [made["secret"]], [made["public_key"]]
    for overlap in (3600, 600):
        rotated = acme.api.post(f"{PATH}/{made['id']}/rotate-secret", {"overlap_seconds": overlap}, 200)
        secrets, keys = [*secrets, rotated["secret"]], [*keys, rotated["public_key"]]
    assert admin.last_event()["type"] == "webhook.secret_rotated"
    assert admin.last_event()["after"] == {"signatures": ["v1", "v1a"], "overlap_seconds": 600}
    assert len({*secrets, *keys}) == 6
    arrival = sent(acme.api, made, receiver)
    assert all(verifies(secret, arrival) for secret in secrets)
    signed = arrival.headers["webhook-signature"].split()
    assert [one.split(",")[0] for one in signed].count("v1a") == 3
    assert all(any(verified(key, one, arrival) for one in signed) for key in keys)
    # The second overlap was shorter, and so the first is.
    until = datetime.fromisoformat(acme.api.get(f"{PATH}/{made['id']}")["secrets_overlap_until"])
    assert until < datetime.now(UTC) + timedelta(seconds=601)
    plane.execute("UPDATE catalyst.webhook_secrets SET valid_until = now() WHERE valid_until IS NOT NULL")
    arrival = sent(acme.api, made, receiver)
    assert [verifies(secret, arrival) for secret in secrets] == [False, False, True]
    assert len(arrival.headers["webhook-signature"].split()) == 2
    assert acme.api.get(f"{PATH}/{made['id']}")["secrets_overlap_until"] is None
    assert kept(plane) == 6
    tidied(plane)
    assert kept(plane) == 2


def test_a_secret_that_others_know_ends_at_once_and_so_do_all_before_it(plane: Plane, acme: Tenant, receiver: Receiver) -> None:
    made = made_at(receiver, acme.api)
    one = f"{PATH}/{made['id']}/rotate-secret"
    earlier = [made["secret"], *(acme.api.post(one, status=200)["secret"] for _ in range(5))]
    assert acme.api.post(one, None, 409)["code"] == "too_many_secrets"
    assert all(verifies(secret, sent(acme.api, made, receiver)) for secret in earlier)
    newest = acme.api.post(one, {"overlap_seconds": 0}, 200)
    arrival = sent(acme.api, made, receiver)
    assert verifies(newest["secret"], arrival)
    assert not any(verifies(secret, arrival) for secret in earlier)
    assert (newest["secrets_overlap_until"], kept(plane)) == (None, 1)
    for wrong in (-1, 604_801, "x"):
        acme.api.post(one, {"overlap_seconds": wrong}, 422)


def test_ways_to_sign_come_and_go(acme: Tenant, receiver: Receiver) -> None:
    made = made_at(receiver, acme.api, signatures=["v1a"])
    assert made["secret"] is None
    both = acme.api.patch(f"{PATH}/{made['id']}", {"signatures": ["v1", "v1a"]})
    assert both["public_key"] == made["public_key"]
    rotated = acme.api.post(f"{PATH}/{made['id']}/rotate-secret", {"overlap_seconds": 0}, 200)
    assert verifies(rotated["secret"], sent(acme.api, made, receiver))
    assert acme.api.patch(f"{PATH}/{made['id']}", {"signatures": ["v1"]})["public_key"] is None
    arrival = sent(acme.api, made, receiver)
    assert verifies(rotated["secret"], arrival)
    assert "v1a" not in arrival.headers["webhook-signature"]


def verified(public_key: str, signature: str, arrival: Arrival) -> bool:
    """Whether a signature of the header is this key's: v1a, Ed25519."""
    version, _, text = signature.partition(",")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    signed = f"{arrival.id}.{arrival.headers['webhook-timestamp']}.".encode() + arrival.body
    try:
        key.verify(base64.b64decode(text), signed)
    except InvalidSignature:
        return False
    return version == "v1a"


def kept(plane: Plane) -> int:
    """How many secrets there are."""
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        row = connection.execute("SELECT count(*) FROM catalyst.webhook_secrets").fetchone()
        assert row is not None
        return int(row[0])


def tidied(plane: Plane) -> None:
    """Each round of the housekeeping once."""

    async def main() -> None:
        pool = await create_pool(plane.settings.database_url, "catalyst_control", size=2)
        try:
            await tidy(House(pool, plane.settings, Metrics(), LastUse()))
        finally:
            await pool.close()

    asyncio.run(main())
