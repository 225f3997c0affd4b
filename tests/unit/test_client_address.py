"""Whose address a request of the control plane comes from."""

import pytest
from starlette.requests import Request

from control_plane import client_address
from tests.acceptance.plane import settings_for

PROXIES = "10.0.0.0/8, fd00::/8"


def asked(peer: str | None, *forwarded: str, proxies: str = PROXIES) -> str | None:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    scope = {"type": "http", "client": None if peer is None else (peer, 4711), "headers": headers}
    settings = settings_for("postgresql:///x", CATALYST_LOGIN_TRUSTED_PROXIES=proxies)
    return client_address.address(Request(scope), settings)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", (), "192.0.2.7"),
        ("192.0.2.7", ("198.51.100.1",), "192.0.2.7"),  # Nobody asked for that peer's word.
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("203.0.113.9, 198.51.100.1",), "198.51.100.1"),  # What stands left of it is the client's claim.
        ("10.0.0.1", ("203.0.113.9", "198.51.100.1, 10.1.1.1"), "198.51.100.1"),
        ("10.0.0.1", ("nonsense, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("10.9.9.9, 10.1.1.1",), "10.9.9.9"),
        ("10.0.0.1", ("198.51.100.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1:80",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1,",), "10.0.0.1"),
        ("10.0.0.1", ("unknown",), "10.0.0.1"),
        ("10.0.0.1", ("fe80::1%eth0",), "10.0.0.1"),
        ("10.0.0.1", ("[2001:db8::1]",), "10.0.0.1"),
        ("fd00::1", ("2001:DB8:0::1",), "2001:db8::1"),
        ("::ffff:10.0.0.1", ("::ffff:198.51.100.1",), "198.51.100.1"),
        ("fd00::1%eth0", ("198.51.100.1",), "198.51.100.1"),
        ("testclient", ("198.51.100.1",), None),
        (None, ("198.51.100.1",), None),
    ],
)
def test_the_clients_address(peer: str | None, forwarded: tuple[str, ...], client: str | None) -> None:
    assert asked(peer, *forwarded) == client


def test_nobodys_word_is_taken_unless_they_are_named() -> None:
    assert asked("127.0.0.1", "198.51.100.1", proxies="") == "127.0.0.1"
