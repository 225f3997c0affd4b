"""Locust users that change things through the control plane's API, each in an org of its own, and some things together.

    locust -f loadtests/changes/users.py --headless -u 200 -r 200 -t 60s --stop-timeout 60 --host http://127.0.0.1:8080

CATALYST_API_KEY is an administrator's; CATALYST_LOAD_RESULT names a file for what was seen, as JSON.
"""

import json
import os
import random
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, events, task
from locust.exception import RescheduleTask

COUNTERS = 20
_seen: dict[str, Any] = {"milliseconds": [], "statuses": Counter(), "counted": Counter(), "things": {}}
_counters: list[str] = []
_numbers = count()


@events.request.add_listener  # type: ignore[untyped-decorator]
def _note(request_type: str, response_time: float, response: Any, exception: Any, **_: Any) -> None:
    status = getattr(response, "status_code", 0) if exception is None or response is not None else 0
    _seen["statuses"][str(status)] += 1
    if request_type != "GET":
        _seen["milliseconds"].append(response_time)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _write(**_: Any) -> None:
    if name := os.environ.get("CATALYST_LOAD_RESULT"):
        Path(name).write_text(json.dumps(_seen))


class Administrator(FastHttpUser):
    """One client without a pause between its changes. `mine`: what it made and did not remove, by kind."""

    default_headers = {"authorization": f"Bearer {os.environ['CATALYST_API_KEY']}"}  # noqa: RUF012  (read once)

    def on_start(self) -> None:
        """An org, somebody in it, and the counters that all share."""
        self.mine: dict[str, list[str]] = {"groups": [], "roles": [], "grants": [], "memberships": []}
        if len(_counters) < COUNTERS:
            _counters.append(self._made("/v1/profiles", {"kind": "service", "display_name": "counter"}))
        self.org = self._made("/v1/orgs", {"slug": f"org-{next(_numbers)}", "name": "Org"})
        self.member = self._made("/v1/profiles", {"kind": "service", "display_name": "x"})
        self.mine["memberships"].append(self._made(f"/v1/orgs/{self.org}/memberships", {"profile": self.member}))
        _seen["things"][self.org] = self.mine

    @task(6)
    def add(self) -> None:
        """A group, a role, a grant, or a new person."""
        kind, slug = random.choice(list(self.mine)), f"n{next(_numbers)}"
        body: dict[str, Any] = {"slug": slug, "name": "x"}
        path = f"/v1/orgs/{self.org}/{kind}"
        if kind == "grants":
            body = {"org": self.org, "subject": {"kind": "profile", "id": self.member}, "entitlement": f"e:{slug}"}
            path = "/v1/grants"
        elif kind == "memberships":
            body = {"profile": self._made("/v1/profiles", {"kind": "user", "email": f"{slug}@example.com"})}
        self.mine[kind].append(self._made(path, body))

    @task(3)
    def change(self) -> None:
        """A new name, or new roles."""
        if self.mine["groups"]:
            self._change("PATCH", f"/v1/orgs/{self.org}/groups/{random.choice(self.mine['groups'])}", {"name": uuid4().hex})
        roles = self.mine["roles"][:3]
        self._change("PATCH", f"/v1/orgs/{self.org}/memberships/{self.mine['memberships'][0]}", {"roles": roles})

    @task(2)
    def remove(self) -> None:
        """The oldest grant or group."""
        kind = random.choice(["grants", "groups"])
        if self.mine[kind]:
            path = "/v1/grants" if kind == "grants" else f"/v1/orgs/{self.org}/groups"
            self._change("DELETE", f"{path}/{self.mine[kind][0]}", None)
            self.mine[kind].pop(0)

    @task(2)
    def log_in_and_out(self) -> None:
        """A session comes and goes."""
        session = self._made("/v1/sessions", {"profile": self.member, "org": self.org})
        self._change("POST", f"/v1/sessions/{session}/revoke", None)

    @task(2)
    def count_up(self) -> None:
        """Read, add one, write under If-Match, with all others: again until it was not in vain."""
        counter = random.choice(_counters)
        for _ in range(20):
            shown = self.client.get(f"/v1/profiles/{counter}", name="GET profile")
            if shown.status_code != 200 or shown.headers is None:
                return
            labels = {"count": str(int(shown.json()["labels"].get("count", "0")) + 1)}
            headers = {"if-match": str(shown.headers["etag"])}
            if self._change("PATCH", f"/v1/profiles/{counter}", {"labels": labels}, headers).status_code == 200:
                _seen["counted"][counter] += 1
                return

    def _made(self, path: str, body: Any) -> str:
        return str(self._change("POST", path, body).json()["id"])

    def _change(self, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        with self.client.request(method, path, json=body, headers=headers or {}, name=method, catch_response=True) as answer:
            if answer.status_code not in {200, 201, 204, 412}:
                raise RescheduleTask
            # A counter that somebody else counted meanwhile is no failure.
            answer.success()
            return answer
