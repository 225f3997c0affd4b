"""Answers as bytes."""

import json
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.contract import IDENTITY_HEADERS, REVISION, STATUS, Reason
from sidecar.http import responses
from sidecar.http.responses import TooLarge
from sidecar.policy.model import ANONYMOUS, Kind, Principal, StepUp


def allow(principal: Principal, **changes) -> dict[str, str]:
    values = {"entitlements": principal.entitlements, "reason": "r", "obligations": {}, "assertion": "", "headers": {}} | changes
    return parse(responses.allow(principal, **values))


def parse(before: bytes) -> dict[str, str]:
    """Header lines as a strict reader sees them; a repeated name is an error."""
    lines = (before + b"7").decode("ascii").split("\r\n")[1:]
    pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_every_identity_header_is_there_for_nobody_too():
    headers = allow(ANONYMOUS)
    assert {name: headers[name] for name in IDENTITY_HEADERS} == dict.fromkeys(IDENTITY_HEADERS, "") | {
        "x-forward-auth-reason": "r",
        REVISION: "7",
    }


def test_lists_are_sorted_and_labels_are_json():
    principal = Principal(
        kind=Kind.SESSION,
        sub="s",
        groups=frozenset({"b", "a"}),
        roles=frozenset({"z"}),
        entitlements=frozenset({"orders:write", "orders:read"}),
        scopes=frozenset({"x", "a,b"}),
        labels={"plan": "pro", "city": "Köln"},
    )
    headers = allow(principal, obligations={"mask": ["email"]}, headers={"x-tier": "gold", "x-none": ""})
    assert headers["x-user-groups"] == "a,b"
    assert headers["x-user-entitlements"] == "orders:read,orders:write"
    assert headers["x-user-scopes"] == "a%2Cb,x"
    assert json.loads(headers["x-user-labels"]) == {"plan": "pro", "city": "Köln"}
    assert json.loads(headers["x-policy-obligations"]) == {"mask": ["email"]}
    assert (headers["x-tier"], headers["x-none"]) == ("gold", "")


def test_a_list_too_long_is_sent_empty_with_its_count():
    entitlements = frozenset(f"orders:{number:05}" for number in range(1000))
    headers = allow(Principal(entitlements=entitlements, groups=entitlements))
    assert (headers["x-user-entitlements"], headers["x-user-entitlements-omitted"], headers["x-user-groups"]) == ("", "1000", "")
    fits = frozenset(f"{number:07}" for number in range(1024))  # 1024 times 7 and 1023 commas: 8191 bytes
    headers = allow(Principal(entitlements=fits))
    assert (len(headers["x-user-entitlements"]), headers["x-user-entitlements-omitted"]) == (8191, "")


def test_a_restriction_that_does_not_fit_stops_the_answer():
    with pytest.raises(TooLarge):
        allow(ANONYMOUS, obligations={"mask": ["x" * 9000]})


@given(st.text(), st.text())
def test_no_value_breaks_out_of_its_line(email, label):
    headers = allow(Principal(sub="s", email=email, labels={"l": label}, scopes=frozenset({email})), headers={"x-tier": label})
    assert set(headers) == {*IDENTITY_HEADERS, "content-length", "x-tier"}
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert json.loads(headers["x-user-labels"]) == {"l": label}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encoding_is_reversible_and_leaves_plain_text_alone(text):
    encoded = responses.safe(text)
    if text.isascii() and text.isprintable():
        assert encoded == text
    else:
        assert unquote(encoded) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("%C3%A9@example.com")
def test_no_two_people_have_one_email(email):
    """Applications know people by it: the address é@… and one that is spelled %C3%A9@… must not look the same."""
    assert unquote(allow(Principal(email=email))["x-user-email"]) == email


@pytest.mark.parametrize("reason", list(Reason))
def test_challenges(reason):
    headers = responses.challenge(
        reason, StepUp(("urn:gold", 'a"b'), 900, mfa=True) if reason is Reason.STEP_UP_REQUIRED else None
    )
    assert ("www-authenticate" in headers) == (STATUS[reason] == 401)
    assert ("retry-after" in headers) == (STATUS[reason] in {429, 503})
    if reason is Reason.STEP_UP_REQUIRED:
        assert headers["www-authenticate"] == (
            'Bearer realm="catalyst", error="insufficient_user_authentication", '
            'error_description="A stronger or more recent login is required", acr_values="urn:gold a\\"b", max_age=900, mfa=true'
        )


def test_a_refusal_says_one_code():
    before, body = responses.deny(403, "frozen_account", {})
    headers = parse(before)
    assert json.loads(body) == {"error": "frozen_account"}
    assert headers["x-forward-auth-error"] == "frozen_account"
    assert headers["content-length"] == str(len(body))
    assert not set(headers) & (set(IDENTITY_HEADERS) - {REVISION})
