"""Every page with everything it can show: what the tests of pages look at, in each language."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.login.catalogue import CATALOGUES

LANGUAGES = sorted(CATALOGUES)
NOW = datetime(2026, 11, 25, 21, 40, 12, tzinfo=UTC)
_URL = "https://app.example.com/deep?x=1&y=2"


@dataclass
class Choice:
    name: str
    url: str


@dataclass
class Entry:
    id: str
    device: str
    address: str | None
    org: str
    provider: str
    started: datetime
    last_seen: datetime
    here: bool = False


@dataclass
class Sample:
    """One page as a handler would make it. `name` tells it from the others of the same template."""

    name: str
    template: str
    values: dict[str, Any]


def samples() -> Iterator[Sample]:
    """All pages."""
    yield from _choices()
    messages = CATALOGUES["en"].messages
    for code in sorted(key.split(".")[1] for key in messages if key.startswith("reason.") and key.endswith(".title")):
        yield Sample(f"error_{code}", "error", {"code": code, "try_again": _URL})
    yield Sample("too_many_attempts", "error", {"code": "too_many_attempts", "seconds": 5400})
    yield Sample("refused", "refused", {"code": "nonce", "provider": "Example AG", "try_again": _URL, "back": _URL})
    yield Sample(
        "unknown", "refused", {"code": "unknown_person", "provider": "Example AG", "subject": "00u1-ab", "try_again": _URL}
    )
    for cause in sorted(key.split(".")[2] for key in messages if key.startswith("session_ended.cause.")):
        yield Sample(f"session_ended_{cause}", "session_ended", {"cause": cause, "login": _URL})
    for where in ("here", "everywhere", "provider"):
        yield Sample(f"logged_out_{where}", "logged_out", {"where": where, "login": _URL})
    needs = ["mfa", "acr", "max_age"]
    unmet = {"missing": needs, "max_age": 60, "host": "app.example.com", "try_again": _URL, "back": _URL}
    yield Sample("step_up_unmet", "step_up_unmet", unmet)
    yield Sample("signed_in", "signed_in", {})
    yield Sample("logout", "logout", {"action": "/logout", "fields": {"return_to": _URL}, "provider": "Example AG", "back": _URL})
    yield from _own_sessions()
    yield Sample("onward", "onward", {"to": "https://id.example.com/authorize?x=1&y=2", "host": "id.example.com"})


def _choices() -> Iterator[Sample]:
    base = {
        "host": "app.example.com",
        "action": "/login",
        "fields": {"return_to": _URL},
        "organisation": "",
        "unknown": False,
        "needs": [],
    }
    choices = [Choice("Example AG", "/login?provider=1"), Choice("Ödön & Söhne GmbH & Co. KG", "/login?provider=2")]
    yield Sample("login_choice", "login_choice", base | {"choices": choices})
    unknown = {"choices": [], "organisation": "exampel.com", "unknown": True}
    yield Sample("login_choice_unknown", "login_choice", base | unknown)
    needs = {"choices": choices[:1], "needs": ["mfa", "acr", "max_age"], "max_age": 900}
    yield Sample("login_choice_step_up", "login_choice", base | needs)
    yield Sample("login_choice_alone", "login_choice", base | {"choices": []})


def _own_sessions() -> Iterator[Sample]:
    entries = [
        Entry("1", "Firefox on Linux", "203.0.113.7", "Example AG", "Example Login", NOW - timedelta(hours=3), NOW, here=True),
        Entry(
            "2", "Safari on iPhone", "2001:db8:85a3::8a2e:370:7334", "Example AG", "Example Login", *2 * [NOW - timedelta(days=2)]
        ),
        Entry("3", "", None, "Ödön & Söhne", "", NOW - timedelta(days=40), NOW - timedelta(minutes=1)),
    ]
    base = {"name": "Alice Example", "now": NOW, "action": "/sessions", "logout": "/logout"}
    yield Sample("sessions", "sessions", base | {"entries": entries})
    yield Sample("sessions_one_ended", "sessions", base | {"entries": entries, "ended": "one"})
    yield Sample("sessions_others_ended", "sessions", base | {"entries": entries[:1], "ended": 2})
