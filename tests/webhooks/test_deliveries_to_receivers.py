"""What a control plane and a worker really send, to the guide's receivers: accepted, once, and not when somebody touched it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from control_plane.cli.processes import free_port
from tests.acceptance.plane import Api, Plane
from tests.conftest import make_database
from tests.webhooks.receiver import Arrival, Receiver
from tests.webhooks.receivers import LANGUAGES, receiver
from tests.webhooks.scene import worker
from tests.webhooks.test_receiving_guide import EXAMPLES, PAYLOADS

KEPT, KNOWN, REFUSED = (202, "kept"), (200, "known already"), (401, "not signed by whom we expect, or not just now")


@dataclass
class House:
    """A control plane and a worker, an org to change."""

    api: Api
    org: str

    def webhook(self, url: str, events: str, **more: Any) -> Any:
        return self.api.post("/v1/webhooks", {"org": self.org, "url": url, "events": [events], **more})

    def change(self, kind: str = "groups") -> str:
        """Make something: `group.created`, `role.created`."""
        made: str = self.api.post(f"/v1/orgs/{self.org}/{kind}", {"slug": f"x{uuid4().hex[:20]}", "name": "X"})["id"]
        return made

    def attempts(self, webhook: Any) -> list[Any]:
        """Its attempts, the newest first, once nothing waits any more: what a receiver has is written down a moment later."""
        deadline = time.monotonic() + 20
        while self.api.get(f"/v1/webhooks/{webhook['id']}")["health"]["pending"]:
            assert time.monotonic() < deadline, "something is not delivered"
            time.sleep(0.02)
        found: list[Any] = self.api.get(f"/v1/webhooks/{webhook['id']}/attempts", limit=100)["items"]
        return found

    def await_replay(self, webhook: Any, replay: Any) -> None:
        deadline = time.monotonic() + 20
        while not self.api.get(f"/v1/webhooks/{webhook['id']}/replays/{replay['id']}")["delivered"]:
            assert time.monotonic() < deadline, "it is not sent again"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def house(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    for database in make_database(postgres, "catalyst"):
        output = tmp_path_factory.mktemp("worker") / "log"
        with Plane(database.url("catalyst_control")) as plane, worker(database.url("catalyst_worker"), output):
            api = Api(plane.url, plane.administrator.api_key)
            yield House(api, api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"])
            api.close()


@pytest.fixture
def recorder() -> Iterator[Receiver]:
    with Receiver() as recorder:
        yield recorder


def post(url: str, arrival: Arrival, body: bytes | None = None, **changed: str) -> tuple[int, str]:
    """Hand on what arrived somewhere else, as somebody on the way might."""
    headers = {
        f"webhook-{name}": changed.get(name, arrival.headers[f"webhook-{name}"]) for name in ("id", "timestamp", "signature")
    }
    answer = httpx2.post(url, headers=headers, content=arrival.body if body is None else body)
    return answer.status_code, answer.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_delivery_is_accepted(house: House, language: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/hooks"
    plain = house.webhook(url, "group.*")
    public = house.webhook(url, "role.*", signatures=["v1a"])
    both = house.webhook(url, "profile.*", signatures=["v1", "v1a"], payload="thin", ordered=True)
    with receiver(language, f"{plain['secret']} {public['public_key']} {both['secret']}", port) as program:
        made = sorted(["group.created", house.change("groups")] for _ in range(10))
        made += sorted(["role.created", house.change("roles")] for _ in range(10))
        person = house.api.post("/v1/profiles", {"kind": "user", "email": f"{uuid4().hex}@acme.example"})["id"]
        house.api.post(f"/v1/orgs/{house.org}/memberships", {"profile": person})
        for number in range(5):
            house.api.patch(f"/v1/profiles/{person}", {"display_name": f"Name {number}"})
        made += [["profile.updated", person]] * 5
        assert sorted(program.handled(len(made))) == sorted(made)
        # Its answer may be on its way yet.
        attempts_of = {webhook["id"]: house.attempts(webhook) for webhook in (plain, public, both)}
    for webhook in (plain, public, both):
        attempts = attempts_of[webhook["id"]]
        assert {(each["status_code"], each["answer"], each["error"]) for each in attempts} == {(*KEPT, None)}
        deliveries = house.api.get(f"/v1/webhooks/{webhook['id']}/deliveries")["items"]
        assert {each["status"] for each in deliveries} == {"delivered"}
        house.api.delete(f"/v1/webhooks/{webhook['id']}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_delivery_that_somebody_touched_is_refused(house: House, recorder: Receiver, language: str) -> None:
    webhook = house.webhook(f"{recorder.url}/hooks", "group.created")
    made = house.change()
    (arrival,) = recorder.wait_for("/hooks")
    assert (arrival.method, arrival.headers["content-type"]) == ("POST", "application/json")
    with receiver(language, webhook["secret"]) as program:
        body = arrival.body
        assert post(program.url, arrival, body.replace(made.encode(), str(uuid4()).encode())) == REFUSED
        assert post(program.url, arrival, body.replace(b":", b": ")) == REFUSED
        assert post(program.url, arrival, id=f"msg_{uuid4().hex}") == REFUSED
        assert post(program.url, arrival, timestamp=str(int(arrival.headers["webhook-timestamp"]) + 1)) == REFUSED
        assert post(program.url, arrival, timestamp=str(int(arrival.headers["webhook-timestamp"]) - 400)) == REFUSED
        assert post(program.url, arrival) == KEPT
        assert post(program.url, arrival) == KNOWN
        assert program.handled(1) == [["group.created", made]]
    stranger = house.webhook(f"{recorder.url}/other", "org.deleted")
    with receiver(language, stranger["secret"]) as program:
        assert post(program.url, arrival) == REFUSED
    house.api.delete(f"/v1/webhooks/{webhook['id']}")


def test_the_guides_examples_have_what_a_delivery_has(house: House, recorder: Receiver) -> None:
    webhooks = [house.webhook(f"{recorder.url}/{payload}", "grant.created", payload=payload) for payload in PAYLOADS]
    subject = {"kind": "org", "id": house.org}
    house.api.post("/v1/grants", {"org": house.org, "subject": subject, "entitlement": "orders:read", "reason": "a secret"})
    for payload, example in zip(PAYLOADS, EXAMPLES, strict=True):
        (arrival,) = recorder.wait_for(f"/{payload}")
        assert shape(arrival.event) == shape(example)
        assert "a secret" not in arrival.body.decode()
    for webhook in webhooks:
        house.api.delete(f"/v1/webhooks/{webhook['id']}")


def shape(value: Any) -> Any:
    """Which fields there are."""
    return {name: shape(part) for name, part in value.items()} if isinstance(value, dict) else None


def test_both_signatures_while_the_secret_changes(house: House, recorder: Receiver) -> None:
    webhook = house.webhook(f"{recorder.url}/hooks", "group.created", signatures=["v1", "v1a"])
    path = f"/v1/webhooks/{webhook['id']}/rotate-secret"
    new = house.api.post(path, {"overlap_seconds": 3600}, 200)
    house.change()
    (overlapping,) = recorder.wait_for("/hooks")
    versions = re.findall(r"(v1a?),\S+", overlapping.headers["webhook-signature"])
    assert sorted(versions) == ["v1", "v1", "v1a", "v1a"]
    newest = house.api.post(path, {"overlap_seconds": 0}, 200)
    house.change()
    _, after = recorder.wait_for("/hooks", 2)
    known = (webhook, new, newest)
    for kind in ("secret", "public_key"):
        keys = [each[kind] for each in known]
        assert len(set(keys)) == 3
        for language in LANGUAGES:
            for key, answers in ((keys[0], (KEPT, REFUSED)), (keys[2], (REFUSED, KEPT))):
                with receiver(language, key) as program:
                    assert (post(program.url, overlapping), post(program.url, after)) == answers
    house.api.delete(f"/v1/webhooks/{webhook['id']}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_was_down_hears_of_it_later_and_of_a_replay_once(house: House, language: str) -> None:
    port = free_port()
    webhook = house.webhook(f"http://127.0.0.1:{port}/hooks", "group.created", retry_schedule=[1] * 20)
    with receiver(language, webhook["secret"], port) as program:
        program.kill()
        made = house.change()
        program.start()
        assert program.handled(1) == [["group.created", made]]
        delivery = house.attempts(webhook)[0]["delivery"]
        replay = house.api.post(f"/v1/webhooks/{webhook['id']}/deliveries/{delivery}/replay", None, 202)
        house.await_replay(webhook, replay)
        later = house.change()
        assert program.handled(2) == [["group.created", made], ["group.created", later]]
        mine = [(each["status_code"], each["answer"]) for each in house.attempts(webhook) if each["delivery"] == delivery]
    assert mine[0] == KNOWN
    assert KEPT in mine
    house.api.delete(f"/v1/webhooks/{webhook['id']}")
