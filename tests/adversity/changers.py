"""Clients of a control plane that dies: each makes changes in an org of its own, repeats what got no answer, and knows what must be.

Every change has an Idempotency-Key. It is sent until it is answered for good, so that what a client believes is exact: a repeat that
were done twice, or an answer to something that was lost, shows in the end.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any
from uuid import uuid4

import httpx2

LATER = frozenset({500, 502, 503, 504})


@dataclass
class Changer:
    """One client. `things`: what it made and did not remove, by table, then by id; `counted`: how often it counted up."""

    client: httpx2.AsyncClient
    name: str
    shared: str
    random: Random
    things: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    answered: int = 0
    repeated: int = 0
    counted: int = 0
    org: str = ""
    numbers: Iterator[int] = field(default_factory=count)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """The answer to a change, however long it takes to get one."""
        sent = {"idempotency-key": str(uuid4()), **{name.replace("_", "-"): value for name, value in headers.items()}}
        while True:
            try:
                answer = await self.client.request(method, path, json=body, headers=sent)
                if answer.status_code not in LATER:
                    self.answered += 1
                    return answer
            except httpx2.HTTPError:
                pass
            self.repeated += 1
            await asyncio.sleep(0.1)

    async def make(self, table: str, path: str, body: Any) -> str:
        """Make a thing; its id."""
        answer = await self.call("POST", path, body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        self.things.setdefault(table, {})[made["id"]] = made
        return str(made["id"])

    async def set_up(self) -> None:
        """The org, and somebody to have keys and sessions who stays."""
        self.org = await self.make("orgs", "/v1/orgs", {"slug": self.name, "name": "x"})
        self.holder = await self.make("profiles", "/v1/profiles", {"kind": "service", "display_name": "x"})
        await self.make("memberships", f"/v1/orgs/{self.org}/memberships", {"profile": self.holder})
        self.stays = frozenset({self.org, self.holder, *self.things["memberships"]})

    async def work(self, stop: asyncio.Event) -> None:
        """One change after the other until told to stop; what was begun is brought to its end."""
        steps = (self.add, self.add, self.change, self.remove, self.credential, self.count_up)
        while not stop.is_set():
            await self.random.choice(steps)()

    async def add(self) -> None:
        kind = self.random.choice(["groups", "roles", "grants", "memberships"])
        slug, path = f"n{next(self.numbers)}", f"/v1/orgs/{self.org}"
        if kind in {"groups", "roles"}:
            await self.make(kind, f"{path}/{kind}", {"slug": slug, "name": "x"})
        elif kind == "grants":
            subject = {"kind": "profile", "id": self.holder}
            await self.make(kind, "/v1/grants", {"org": self.org, "subject": subject, "entitlement": f"e:{slug}"})
        else:
            profile = await self.make("profiles", "/v1/profiles", {"kind": "user", "email": f"{slug}@{self.name}.example"})
            await self.make(kind, f"{path}/memberships", {"profile": profile})

    async def change(self) -> None:
        """Rename something, or suspend somebody."""
        table = self.random.choice(["orgs", "groups", "roles", "profiles"])
        if found := self.one_of(table):
            body = {"status": self.random.choice(["active", "suspended"])} if table == "profiles" else {"name": uuid4().hex}
            answer = await self.call("PATCH", f"{self.place(table)}/{found}", body)
            assert answer.status_code == 200, answer.text
            self.things[table][found] = answer.json()

    async def remove(self) -> None:
        table = self.random.choice(["groups", "roles", "grants", "memberships"])
        found = self.one_of(table)
        if found and found not in self.stays:
            answer = await self.call("DELETE", f"{self.place(table)}/{found}")
            assert answer.status_code == 204, answer.text
            del self.things[table][found]

    async def credential(self) -> None:
        """A key or a session is made, or ended."""
        table = self.random.choice(["api-keys", "sessions"])
        found = self.one_of(table)
        if found and self.random.random() < 0.5:
            answer = await self.call("POST", f"/v1/{table}/{found}/revoke")
            assert answer.status_code == 204, answer.text
            self.things[table][found]["ended"] = True
        elif self.things["profiles"][self.holder].get("status", "active") == "active":
            await self.make(
                table, f"/v1/{table}", {"profile": self.holder, "org": self.org, **({"name": "x"} if table == "api-keys" else {})}
            )

    async def count_up(self) -> None:
        """Read, add one, write under the condition that nobody did meanwhile: with all others, on one profile."""
        while True:
            try:
                shown = await self.client.get(f"/v1/profiles/{self.shared}")
            except httpx2.HTTPError:
                await asyncio.sleep(0.1)
                continue
            if shown.status_code != 200:
                continue
            labels = {"count": str(int(shown.json()["labels"].get("count", "0")) + 1)}
            answer = await self.call("PATCH", f"/v1/profiles/{self.shared}", {"labels": labels}, if_match=shown.headers["etag"])
            if answer.status_code == 200:
                self.counted += 1
                return
            assert answer.status_code == 412, answer.text

    def one_of(self, table: str) -> str | None:
        known = list(self.things.get(table, ()))
        return self.random.choice(known) if known else None

    def place(self, table: str) -> str:
        return f"/v1/{table}" if table in {"orgs", "profiles", "grants"} else f"/v1/orgs/{self.org}/{table}"
