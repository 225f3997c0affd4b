"""What is kept of an endpoint and what is opened of it; its own headers; messages."""

import base64
import json
import secrets
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from control_plane.delivery import signing
from control_plane.delivery.endpoint import Endpoint, opened, secret_label, version_of
from control_plane.delivery.headers import check_headers
from control_plane.delivery.message import event_id, message, message_id
from control_plane.errors import OperatorError
from control_plane.sealing import Keyring, SecretKey, seal
from sidecar.contract import IDENTITY_HEADERS

RING = Keyring((SecretKey(secrets.token_bytes(32)),))
WEBHOOK, EVENT = uuid4(), UUID("0190d4c3-6a1e-7c3b-9d2f-6b1f0a1c2d3e")
SECRET, PRIVATE = signing.new_secret(), signing.new_key_pair()[0]


def sealed(kind: str, text: str, webhook: UUID = WEBHOOK) -> tuple[str, bytes, UUID]:
    secret_id = uuid4()
    return kind, seal(RING, secret_label(webhook, kind, secret_id), text.encode()), secret_id


def row(*sealed_values: tuple[str, bytes, UUID], **changes: Any) -> dict[str, Any]:
    return {
        "id": WEBHOOK,
        "org_id": None,
        "url": "https://hook.example/",
        "payload": "full",
        "ordered": False,
        "retry_schedule": [5, 300],
        "timeout_seconds": 15,
        "rate_limit": None,
        "max_in_flight": 10,
        "client_certificate": None,
        "ca_bundle": None,
        "secrets": list(sealed_values),
        **changes,
    }


# opened


def test_an_endpoint_is_opened_whole() -> None:
    known = [
        sealed("v1", SECRET),
        sealed("v1a", PRIVATE),
        sealed("headers", '{"x-key": "canary"}'),
        sealed("client_key", "canary pem"),
    ]
    found = opened(RING, row(*known, client_certificate="certificate"))
    assert (found.id, found.retry_schedule, found.timeout_seconds) == (WEBHOOK, (5, 300), 15.0)
    assert (found.headers, found.client_key, found.certificate) == ({"x-key": "canary"}, "canary pem", "certificate")
    signature = signing.sign(found.keys, "msg_1", 17, b"{}")
    assert [each.split(",")[0] for each in signature.split(" ")] == ["v1", "v1a"]
    assert Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(17, UTC), "{}") in signature
    for private in ("canary", SECRET, PRIVATE, "hook.example"):
        assert private not in repr(found)


def test_a_secret_of_another_webhook_or_another_kind_does_not_open() -> None:
    with pytest.raises(OperatorError):
        opened(RING, row(sealed("v1", SECRET, webhook=uuid4())))
    kind, wrapped, secret_id = sealed("v1", SECRET)
    assert kind == "v1"
    with pytest.raises(OperatorError):
        opened(RING, row(("client_key", wrapped, secret_id)))


def test_the_version_changes_with_everything_that_an_attempt_depends_on() -> None:
    known = sealed("v1", SECRET)
    first = row(known)
    changes: list[dict[str, Any]] = [
        {"url": "https://hook.example/other"},
        {"payload": "thin"},
        {"ordered": True},
        {"retry_schedule": [5]},
        {"timeout_seconds": 16},
        {"rate_limit": 1},
        {"max_in_flight": 11},
        {"client_certificate": "one"},
        {"ca_bundle": "one"},
        {"secrets": []},
        {"secrets": [known, sealed("v1", SECRET)]},
        {"secrets": [sealed("v1", SECRET)]},
    ]
    versions = {version_of({**first, **change}) for change in changes}
    assert version_of(first) not in versions
    assert len(versions) == len(changes)
    assert version_of(first) == version_of(row(known)) == opened(RING, first).version
    told = {field.name for field in fields(Endpoint)} - {"id", "org", "version", "keys", "headers", "client_key", "certificate"}
    assert told <= {name for change in changes for name in change}


def test_an_endpoint_is_changed_by_nobody() -> None:
    found = opened(RING, row(sealed("v1", SECRET)))
    with pytest.raises(AttributeError):
        found.url = "https://evil.example/"  # type: ignore[misc]
    assert replace(found, url="https://other.example/").url == "https://other.example/"


# headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        {"X-Api-Key": 'a b\\c"d,;=', "x-tenant": "1"},
        {"Cookie": "session=1", "User-Agent": "acme"},
        {f"x-{number}": "y" for number in range(20)},
        {"x-long": "y" * 7000},
    ],
)
def test_headers_that_are_taken(headers: dict[str, str]) -> None:
    assert check_headers(headers) == {name.lower(): value for name, value in headers.items()}


FORBIDDEN = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "via",
    "accept-encoding",
    "proxy-authorization",
    "proxy-connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "webhook-anything",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-original-url",
    "x-real-ip",
    "x-catalyst-org",
    "http2-settings",
    "sec-websocket-key",
]


@pytest.mark.parametrize("name", [*FORBIDDEN, *IDENTITY_HEADERS])
@pytest.mark.parametrize("written", [str, str.upper, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")])
def test_headers_that_are_ours(name: str, written: Any) -> None:
    with pytest.raises(ValueError, match=r"not yours to set"):
        check_headers({written(name): "x"})


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"x y": "x"},
        {"x:": "x"},
        {":authority": "x"},
        {"x\r\ny": "x"},
        {"naïve": "x"},
        {"x" * 101: "x"},
        {"x-key": ""},
        {"x-key": " canary"},
        {"x-key": "canary "},
        {"x-key": "canary\r\nhost: evil"},
        {"x-key": "canary\n"},
        {"x-key": "canary\x00"},
        {"x-key": "canary\t1"},
        {"x-key": "canaryé"},
        {"X-Key": "canary", "x-key": "canary"},
        {f"x-{number}": "canary" for number in range(21)},
        {"x-key": "canary" * 2000},
    ],
)
def test_headers_that_are_none(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be|is letters|write") as caught:
        check_headers(headers)
    assert "canary" not in str(caught.value)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_whatever_is_taken_can_be_sent(headers: dict[str, str]) -> None:
    try:
        checked = check_headers(headers)
    except ValueError:
        return
    for name, value in checked.items():
        assert name.isascii()
        assert name == name.lower()
        assert value.isprintable()
        assert value.isascii()


# messages


DATA = {"id": "g-1", "org": "o-1", "before": None, "after": {"entitlement": "orders:read", "active": True}}


def test_a_message_is_what_the_specification_says() -> None:
    at = datetime(2026, 11, 26, 1, 2, 3, 4, timezone(timedelta(hours=5, minutes=45)))
    full = message(EVENT, "grant.created", at, 12, DATA, "full")
    thin = message(EVENT, "grant.created", at, None, DATA, "thin")
    assert full.id == thin.id == "msg_0190d4c36a1e7c3b9d2f6b1f0a1c2d3e"
    head = {"type": "grant.created", "timestamp": "2026-11-25T19:17:03.000004Z"}
    assert json.loads(full.body) == {**head, "revision": 12, "data": DATA}
    assert json.loads(thin.body) == {**head, "revision": None, "data": {"id": "g-1", "org": "o-1"}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(after=st.dictionaries(st.text(), json_values, max_size=4), order=st.randoms())
def test_the_same_event_is_the_same_bytes(after: dict[str, Any], order: Any) -> None:
    """However it was written down meanwhile; in ASCII, which nobody decodes otherwise."""

    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = list(value)
        order.shuffle(names)
        return {name: shuffled(value[name]) for name in names}

    at = datetime(2026, 11, 26, tzinfo=UTC)
    data = {"id": "1", "org": None, "before": None, "after": after}
    first = message(EVENT, "profile.updated", at, 1, data, "full")
    again = message(EVENT, "profile.updated", at, 1, shuffled(data), "full")
    assert first.body == again.body
    assert first.body.isascii()
    assert json.loads(first.body)["data"] == data


@given(st.uuids())
def test_an_events_id_is_found_again(event: UUID) -> None:
    assert event_id(message_id(event)) == event_id(str(event)) == event


@pytest.mark.parametrize(
    "text",
    ["", "msg_", "msg_x", EVENT.hex, f"msg_{EVENT}", f"MSG_{EVENT.hex}", f"msg_{EVENT.hex} ", f"{{{EVENT}}}", f"msg_{EVENT.hex}\n",
     str(EVENT).upper(), base64.b64encode(EVENT.bytes).decode(), "msg_" + "\u0661" * 32],
)  # fmt: skip
def test_what_is_no_events_id(text: str) -> None:
    assert event_id(text) is None
