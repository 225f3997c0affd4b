"""The control plane's parts that need neither database nor network."""

import base64
import json
import logging
import socket
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, TypeAdapter, ValidationError

from control_plane import logs
from control_plane.access import Needs, needs
from control_plane.app import api_routes
from control_plane.authentication import Unauthenticated, credential
from control_plane.errors import ApiError, OperatorError
from control_plane.fields import EntitlementName, Labels, Slug, as_uuid
from control_plane.paging import cursor, page, read_cursor
from control_plane.permissions import Caller, Permission
from control_plane.problems import from_exception
from control_plane.route import Route
from control_plane.sealing import Keyring, SecretKey, named_key, seal, unseal
from control_plane.settings import VARIABLES, Settings, doubts
from control_plane.variables import Address

KEY = base64.b64encode(bytes(32)).decode()
ENOUGH = {"CATALYST_DATABASE_URL": "postgresql://catalyst:hunter2@db.example.com/catalyst", "CATALYST_SECRET_KEY": KEY}


def test_settings_have_defaults_for_all_but_what_only_the_operator_knows() -> None:
    settings = Settings.from_environ(ENOUGH)
    assert settings.listen == Address("127.0.0.1", 8080)
    assert settings.ops_listen == Address("127.0.0.1", 9080)
    assert settings.session_seconds == 300
    assert {variable.name for variable in VARIABLES if variable.default is None} == set(ENOUGH)
    assert Settings.from_environ({**ENOUGH, "CATALYST_CONTROL_LISTEN": "[::1]:80"}).listen == Address("::1", 80)
    other = base64.b64encode(bytes([1] * 32)).decode()
    assert repr(Settings.from_environ({**ENOUGH, "CATALYST_SECRET_KEY": f"{other}, {KEY}"}).secret_key) == repr(ring(1, 0))


def test_settings_do_not_show_secrets() -> None:
    shown = repr(Settings.from_environ(ENOUGH))
    assert "hunter2" not in shown
    assert "x00" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CATALYST_DATABASE_URL", "mysql://x"),
        ("CATALYST_DATABASE_URL", ""),
        ("CATALYST_SECRET_KEY", base64.b64encode(bytes(31)).decode()),
        ("CATALYST_SECRET_KEY", "ß"),
        ("CATALYST_SECRET_KEY", f"{KEY},"),
        ("CATALYST_SECRET_KEY", f"{KEY}, {KEY}"),
        ("CATALYST_CONTROL_LISTEN", "localhost"),
        ("CATALYST_CONTROL_LISTEN", "localhost:99999"),
        ("CATALYST_CONTROL_LISTEN", ":80"),
        ("CATALYST_CONTROL_OPS_LISTEN", "localhost:x"),
        ("CATALYST_ISSUER", "auth.example.com"),
        ("CATALYST_ISSUER", "https://auth.example.com/?x"),
        ("CATALYST_CONTROL_CONNECTIONS", "1"),
        ("CATALYST_CONTROL_CONNECTIONS", "many"),
        ("CATALYST_SESSION_SECONDS", "29"),
        ("CATALYST_SESSION_SECONDS", "3601"),
        ("CATALYST_SESSION_SECONDS", "5m"),
        ("CATALYST_AUDIT_KEEP_DAYS", "30"),
        ("CATALYST_AUDIT_KEEP_DAYS", "-1"),
        ("CATALYST_AUDIT_KEEP_DAYS", "36501"),
        ("CATALYST_AUDIT_CHECKPOINT_SECONDS", "0"),
        ("CATALYST_AUDIT_CHECKPOINT_SECONDS", "9" * 5000),
        ("CATALYST_COOKIE_DOMAIN", ".example.com"),
        ("CATALYST_COOKIE_DOMAIN", "other.example.com"),
        ("CATALYST_LOG_LEVEL", "loud"),
        ("CATALYST_LOG_FORMAT", "xml"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(OperatorError) as refused:
        Settings.from_environ({**ENOUGH, name: value})
    (problem,) = refused.value.problems
    assert problem.startswith(name)


def test_all_settings_that_cannot_be_read_are_named_at_once() -> None:
    with pytest.raises(OperatorError) as refused:
        Settings.from_environ({"CATALYST_SECRET_KEY": "short", "CATALYST_LOG_FORMAT": "xml"})
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"CATALYST_LOGIN_URL": "http://auth.localhost:8000/login", "CATALYST_ISSUER": "http://[::1]"}, []),
        (
            {"CATALYST_LOGIN_URL": "https://auth.example.com/login", "CATALYST_LOGIN_LISTEN": "127.0.0.1:1", "CATALYST_ISSUER": "https://a.b"},
            [],
        ),
        ({"CATALYST_LOGIN_URL": "https://auth.example.com/login"}, ["CATALYST_LOGIN_LISTEN is not set"]),
        ({"CATALYST_LOGIN_URL": "http://auth.example.com/login", "CATALYST_LOGIN_LISTEN": "127.0.0.1:1"}, ["CATALYST_LOGIN_URL is http"]),
        ({"CATALYST_LOGIN_URL": "https://auth.example.com", "CATALYST_LOGIN_LISTEN": "127.0.0.1:1"}, ["CATALYST_LOGIN_URL leads to /,"]),
        ({"CATALYST_ISSUER": "https://auth.example.com"}, ["CATALYST_LOGIN_URL is this machine's"]),
    ],
)  # fmt: skip
def test_settings_that_are_seldom_meant_are_told_at_the_start(changed: dict[str, str], told: list[str]) -> None:
    found = doubts(Settings.from_environ({**ENOUGH, **changed}))
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        FileNotFoundError(2, "no socket"),
        socket.gaierror(-2, "no name"),
        OSError(113, "no route"),
        asyncpg.CannotConnectNowError(),
    ],
)
def test_a_database_that_is_away_is_no_fault_of_the_program(failure: Exception) -> None:
    assert (from_exception(failure).status, from_exception(failure).code) == (503, "try_again")
    assert from_exception(KeyError()).status == 500


def ring(*keys: int) -> Keyring:
    """A ring of keys, each made of one byte."""
    return Keyring(tuple(SecretKey(bytes([key] * 32)) for key in keys))


def test_a_sealed_secret_opens_with_its_key_under_its_label_alone() -> None:
    sealed = seal(ring(0), "a", b"secret")
    assert unseal(ring(0), "a", sealed) == b"secret"
    assert b"secret" not in sealed
    assert seal(ring(0), "a", b"secret") != sealed
    for changed in range(len(sealed)):
        broken = sealed[:changed] + bytes([sealed[changed] ^ 1]) + sealed[changed + 1 :]
        with pytest.raises(OperatorError):
            unseal(ring(0), "a", broken)
    for attempt in ((ring(1), "a", sealed), (ring(0), "b", sealed), (ring(0), "a", b""), (ring(0), "a", sealed[:24])):
        with pytest.raises(OperatorError):
            unseal(*attempt)


def test_of_several_keys_the_first_seals_and_all_open() -> None:
    old = seal(ring(1), "a", b"secret")
    both = ring(2, 1)
    new = seal(both, "a", b"secret")
    assert (named_key(old), named_key(new)) == (ring(1).first.id, ring(2).first.id)
    assert unseal(both, "a", old) == unseal(both, "a", new) == unseal(ring(2), "a", new) == b"secret"
    with pytest.raises(OperatorError, match=f"sealed by the key {ring(1).first.id}, and CATALYST_SECRET_KEY holds"):
        unseal(ring(2), "a", old)


def test_what_was_sealed_before_values_named_their_key_opens() -> None:
    nonce = bytes(12)
    legacy = nonce + AESGCM(bytes([1] * 32)).encrypt(nonce, b"secret", b"a")
    assert named_key(legacy) is None
    assert unseal(ring(2, 1), "a", legacy) == b"secret"
    for attempt in ((ring(2), "a"), (ring(1), "b")):
        with pytest.raises(OperatorError, match="does not open, and CATALYST_SECRET_KEY holds"):
            unseal(*attempt, legacy)


def test_a_key_is_shown_by_its_id_alone() -> None:
    assert repr(ring(65)) == f"Keyring(keys=(SecretKey({ring(65).first.id}),))"


def test_cursors_bring_back_what_they_were_made_of() -> None:
    keys = (datetime.now(UTC), uuid4(), 7, "slug")
    assert read_cursor(cursor(*keys), datetime, UUID, int, str) == list(keys)
    assert read_cursor(None, datetime, UUID) == [None, None]


@pytest.mark.parametrize("text", ["", "x", "é", "W10", "bnVsbA", cursor("a", "b"), cursor("a\0"), cursor(1), "[" * 400])
def test_cursors_that_are_none_of_ours_are_refused(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_cursor(text, UUID)
    assert (refused.value.status, refused.value.faults[0].field) == (422, "after")


def test_a_page_knows_whether_there_is_more() -> None:
    def listed(limit: int) -> Any:
        return page(["a", "b", "c"][: limit + 1], limit, str, lambda row: (row,))

    assert (listed(2).items, listed(2).next) == (["a", "b"], cursor("b"))
    assert (listed(3).items, listed(3).next) == (["a", "b", "c"], None)


def test_one_credential_sent_once() -> None:
    assert credential(["Bearer abc"], []) == credential(["bearer  abc "], []) == credential([], ["abc"]) == "abc"
    assert credential(["Key cak_1_2"], []) == "cak_1_2"
    for authorization in ([], ["Basic abc"], ["Bearer"], [""]):
        with pytest.raises(Unauthenticated) as refused:
            credential(authorization, [])
        assert refused.value.code == "missing_credentials"
    for twice in ((["Bearer a", "Bearer b"], []), (["Bearer a"], ["b"]), ([], ["a", "b"])):
        with pytest.raises(ApiError) as doubled:
            credential(*twice)
        assert doubled.value.status == 400


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a_b", "a" * 64, "a\n", str(UUID(int=0))])
def test_what_is_no_slug(slug: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Slug).validate_python(slug)


def test_only_ids_as_they_are_shown_are_taken_for_ids() -> None:
    some = uuid4()
    assert as_uuid(str(some)) == as_uuid(str(some).upper()) == some
    assert as_uuid(some.hex) is as_uuid(f"{{{some}}}") is as_uuid("acme") is None


@pytest.mark.parametrize("name", ["orders:read", "catalyst:*", "a", "!~-", "x" * 200])
def test_what_is_an_entitlement(name: str) -> None:
    assert TypeAdapter(EntitlementName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a,b", 'a"b', "a'b", "é", "a\n", "x" * 201])
def test_what_is_no_entitlement(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EntitlementName).validate_python(name)


def test_labels_are_text() -> None:
    labels = TypeAdapter(Labels)
    assert labels.validate_python({"a": "x", "b": True, "c": 7}) == {"a": "x", "b": "true", "c": "7"}
    for wrong in ({"a": None}, {"a": 1.5}, {"": "x"}, {"a": "x\n"}, ["a"]):
        with pytest.raises(ValidationError):
            labels.validate_python(wrong)


def test_a_caller_needs_the_permission_and_for_the_platforms_things_the_system_org() -> None:
    caller = Caller("api_key", "k", uuid4(), frozenset({Permission.ORGS_READ}))
    caller.require(Permission.ORGS_READ, platform=False)
    for permission, platform in ((Permission.ORGS_WRITE, False), (Permission.ORGS_READ, True)):
        with pytest.raises(ApiError) as refused:
            caller.require(permission, platform=platform)
        assert refused.value.status == 403
    Caller("api_key", "k", None, caller.permissions).require(Permission.ORGS_READ, platform=True)


def test_logs_hold_no_exceptions_message(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("info", "json")
        secret = "ann@example.com"
        try:
            raise ValueError(secret)
        except ValueError:
            structlog.get_logger().exception("failed", number=7)
            logging.getLogger("elsewhere").exception("failed too")
        structlog.get_logger().debug("too quiet to hear")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["message"], line["level"], line["exception"]) for line in lines] == [
        ("failed", "error", "ValueError"),
        ("failed too", "error", "ValueError"),
    ]
    assert "example.com" not in str(lines)
    assert lines[0]["number"] == 7
    assert "test_logs_hold_no_exceptions_message" in lines[0]["places"][0]


def test_every_answer_has_a_model_of_its_own() -> None:
    """No row reaches a caller but through a model that names its columns."""
    for route in api_routes():
        model = route.response_model
        shown = route.status_code == 204 or route.path.endswith(("/draft", "/versions/{version}", "/export"))
        assert shown or (isinstance(model, type) and issubclass(model, BaseModel)), route.path


def test_every_route_commits_when_its_answer_is_ready() -> None:
    """A router that is made without `route_class=Route` has no transaction to give."""
    assert {type(route) for route in api_routes()} == {Route}


def test_every_route_is_admitted_by_one_door() -> None:
    doors = [needs(route) for route in api_routes()]
    assert sum(isinstance(door, Needs) for door in doors) == len(doors) - 2
