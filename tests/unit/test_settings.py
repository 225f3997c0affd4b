"""The sidecar's configuration."""

from ipaddress import ip_network

import pytest

from sidecar.doubts import doubts
from sidecar.settings import VARIABLES, Address, Settings, SettingsInvalid, address, duration

DATABASE = {"CATALYST_DATABASE_URL": "postgresql://catalyst_sidecar:s3cret@db/catalyst"}


def read(**variables: str) -> Settings:
    return Settings.from_environ(DATABASE | variables)


def problems(**variables: str) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_environ(variables)
    return caught.value.problems


def test_defaults():
    settings = read()
    assert settings.listen == Address("127.0.0.1", 8787)
    assert settings.ops_listen == Address("127.0.0.1", 9787)
    assert settings.trusted_proxies == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert (settings.max_staleness, settings.serve_stale, settings.workers, settings.tls) == (30.0, False, 1, None)
    assert settings.session_cookie == "catalyst_session"
    assert settings.decision_sample == 100


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ["CATALYST_LOGIN_URL is not set"]),
        ({"CATALYST_LOGIN_URL": "http://auth.localhost:8000/login", "CATALYST_LOGIN_RELAY_URL": "http://127.0.0.1:8081"}, []),
        ({"CATALYST_LOGIN_URL": "https://auth.example.com/login"}, []),
        ({"CATALYST_LOGIN_URL": "http://auth.example.com/login"}, ["CATALYST_LOGIN_URL is http"]),
        (
            {"CATALYST_LOGIN_URL": "https://auth.example.com/login", "CATALYST_LOGIN_RELAY_URL": "http://10.0.0.7:8081"},
            ["CATALYST_LOGIN_RELAY_URL is http"],
        ),
    ],
)
def test_settings_that_are_seldom_meant_are_told_at_the_start(changed: dict[str, str], told: list[str]):
    found = doubts(read(**changed))
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_the_login_is_asked_where_its_page_is_unless_said_otherwise():
    page = "https://auth.example.com:8443/login?x=1"
    assert (read().login_relay_url, read(CATALYST_LOGIN_URL=page).login_relay_url) == ("", "https://auth.example.com:8443")
    own = read(CATALYST_LOGIN_URL=page, CATALYST_LOGIN_RELAY_URL="http://control.svc:8080/base/")
    assert own.login_relay_url == "http://control.svc:8080/base"
    for bad in ("control:8080", "ftp://control/", "http://control/?x", "http://control/#x", "http://me:pw@control/", "http:///x"):
        assert any("LOGIN_RELAY_URL" in line for line in problems(CATALYST_LOGIN_RELAY_URL=bad)), bad


def test_every_problem_is_reported_at_once():
    found = problems(
        CATALYST_SIDECAR_LISTEN="nowhere",
        CATALYST_SIDECAR_TRUSTED_PROXIES="10.0.0.1/8",
        CATALYST_SIDECAR_MAX_STALENESS="soon",
        CATALYST_SIDECAR_ON_STALE="maybe",
        CATALYST_SIDECAR_WORKERS="0",
        CATALYST_SIDECAR_DECISION_SAMPLE="1001",
        CATALYST_SIDECAR_TLS_CERT="/nowhere/cert.pem",
        CATALYST_LOGIN_URL="//login",
        CATALYST_LOG_LEVEL="loud",
    )
    for name in (
        "DATABASE_URL",
        "LISTEN",
        "TRUSTED_PROXIES",
        "MAX_STALENESS",
        "ON_STALE",
        "WORKERS",
        "DECISION_SAMPLE",
        "TLS_KEY",
    ):
        assert any(name in line for line in found), name
    assert any("LOGIN_URL" in line for line in found)
    assert any("LOG_LEVEL" in line for line in found)


def test_a_secret_is_never_echoed():
    found = problems(CATALYST_DATABASE_URL="mysql://me:hunter2@db/x")
    assert len(found) == 1
    assert "hunter2" not in found[0]


@pytest.mark.parametrize("listen", ["0.0.0.0:8787", "[::]:8787", "10.1.2.3:80"])
def test_beyond_loopback_the_proxies_must_be_named(listen):
    assert any("TRUSTED_PROXIES" in line for line in problems(**DATABASE, CATALYST_SIDECAR_LISTEN=listen))
    named = read(CATALYST_SIDECAR_LISTEN=listen, CATALYST_SIDECAR_TRUSTED_PROXIES="10.0.0.0/8, 192.168.0.0/16")
    assert named.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("192.168.0.0/16"))


def test_both_listeners_on_one_address():
    assert any("OPS_LISTEN" in line for line in problems(**DATABASE, CATALYST_SIDECAR_OPS_LISTEN="127.0.0.1:8787"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("localhost:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("unix:/run/catalyst.sock", Address(path="/run/catalyst.sock")),
    ],
)
def test_addresses(text, expected):
    assert address(text) == expected
    assert address(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "8787", ":8787", "host:80", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:٣", "unix:run", "unix:/" + "x" * 101]
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"."):
        address(text)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("7", 7), ("1.5s", 1.5)])
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1 s", "s", "1d", "inf", "nan"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"."):
        duration(text)


def test_tls_needs_both_files(tmp_path):
    certificate = tmp_path / "cert.pem"
    certificate.write_text("")
    assert any("together" in line for line in problems(**DATABASE, CATALYST_SIDECAR_TLS_CERT=str(certificate)))


def test_the_table_of_variables_is_complete():
    names = [variable.name for variable in VARIABLES]
    assert len(names) == len(set(names))
    assert all(variable.meaning.endswith(".") for variable in VARIABLES)
    assert {"CATALYST_SIDECAR_TLS_CERT", "CATALYST_SIDECAR_DRAIN_SECONDS", "CATALYST_SESSION_COOKIE"} <= set(names)
