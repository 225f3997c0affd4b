"""From a request at the check listener to rows in the database: sampled decisions, a shadow's differences, a key's last use."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from psycopg.types.json import Jsonb

from tests.protocol.processes import Sidecar, change, fill, sidecar
from tests.protocol.world import ALICE, API_KEY, ISSUER, POLICY, ROBOT, SESSION, question, token, uuid

CANARY = "canary-4711"
ORDER = "https://orders.example.com/api/v1/orders/"
STRICT = {"version": 1, "rules": [rule for rule in POLICY["rules"] if rule["id"] != "read-orders"]}


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition gives as soon as that is something; a sidecar reports every five seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.1)
    return found


def fresh(**claims: Any) -> str:
    """A session token as of now."""
    now = int(time.time())
    return token(iat=now - 5, exp=now + 600, auth_time=now - 60, **claims)


class Story:
    """A database, and what is asked of it again and again."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.url, options="-c search_path=catalyst") as connection:
            return connection.execute(query).fetchall()

    def decisions(self, where: str = "true") -> list[Any]:
        columns = "kind, profile_id::text, api_key_id IS NOT NULL, path, effect, shadow_effect, shadow_differs"
        return self.rows(f"SELECT {columns} FROM decisions WHERE {where} ORDER BY id")


def ask_them_all(running: Sidecar) -> None:
    """A key, a session as a token and in a cookie, nobody; each with secrets where a client may put them."""
    query = f"?{CANARY}=1&token={API_KEY}"
    for request in (
        question(url=f"{ORDER}key{query}", x_api_key=API_KEY),
        question(url=f"{ORDER}token{query}", authorization=f"Bearer {fresh(amr=['pwd', 'otp'], acr='urn:gold')}"),
        question(url=f"{ORDER}cookie{query}", cookie=f"a={CANARY}; catalyst_session={fresh()}", referer=f"https://x/{CANARY}"),
        question(url=f"{ORDER}nobody{query}", accept=CANARY, user_agent=CANARY),
    ):
        running.ask(request)


def explain(running: Sidecar, url: str) -> Any:
    """What the sidecar says about a request with the API key."""
    asked = {"method": "GET", "url": url, "headers": {"x-api-key": API_KEY}}
    return httpx2.post(f"{running.ops}/explain", json=asked, timeout=10).json()


def test_decisions_differences_and_uses_arrive(database: Any, tmp_path: Path) -> None:
    fill(database.admin_url)
    story = Story(database.admin_url)
    email = f"{CANARY}@example.com"
    change(database.admin_url, f"UPDATE profiles SET email = '{email}', labels = '{{\"a\": \"{CANARY}\"}}' WHERE id = '{ALICE}'")
    began = time.time()
    url = database.url("catalyst_sidecar")
    with (
        sidecar(url, tmp_path) as running,
        sidecar(url, tmp_path, CATALYST_SIDECAR_DECISION_SAMPLE="3") as narrow,
        sidecar(url, tmp_path, CATALYST_SIDECAR_DECISION_SAMPLE="0") as silent,
    ):
        for _ in range(3):
            ask_them_all(running)
        for number in range(10):
            narrow.ask(question(url=f"https://orders.example.com/public/{number}"))
            silent.ask(question(url="https://signed.example.com/silent"))

        # One row for each question, however often it was asked.
        until(lambda: len(story.decisions("path LIKE '/api%'")) == 4)
        assert story.decisions("path LIKE '/api%'") == [
            ("api_key", ROBOT, True, "/api/v1/orders/key", "allow", None, False),
            ("session", ALICE, False, "/api/v1/orders/token", "allow", None, False),
            ("session", ALICE, False, "/api/v1/orders/cookie", "allow", None, False),
            ("anonymous", None, False, "/api/v1/orders/nobody", "deny", None, False),
        ]
        # Of the narrow sidecar's ten no more than three a report, of which there may have been two; the rest are counted.
        lost = "SELECT COALESCE(sum(lost), 0)::int FROM decision_counts"
        until(lambda: len(story.decisions("path LIKE '/public%'")) + story.rows(lost)[0][0] == 10)
        assert 3 <= len(story.decisions("path LIKE '/public%'")) <= 6
        assert f'decision_samples_total{{status="lost"}} {story.rows(lost)[0][0]}\n' in narrow.get("/metrics").text
        assert story.decisions("path = '/silent'") == []
        assert story.rows("SELECT amr, acr FROM decisions WHERE path LIKE '%token'") == [(["otp", "pwd"], "urn:gold")]
        assert story.rows("SELECT DISTINCT revision FROM decisions") == story.rows("SELECT revision FROM head")
        (used,) = until(lambda: story.rows("SELECT last_used_at FROM api_keys WHERE last_used_at IS NOT NULL"))[0]
        assert began - 1 <= used.timestamp() <= time.time() + 1

        # A shadow that no longer lets orders be read: everything is worked out once more.
        with psycopg.connect(database.admin_url) as connection:
            shadow = "INSERT INTO catalyst.shadow_policies (application_id, etag, document) VALUES (%s, 'draft-1', %s)"
            connection.execute(shadow, [uuid(71), Jsonb(STRICT)])
        revision = story.rows("SELECT revision FROM head")[0][0]
        reply = running.ask(question(url=f"{ORDER}key", x_api_key=API_KEY, x_catalyst_min_revision=str(revision)))
        assert (reply.status, reply.headers["x-catalyst-revision"]) == (200, str(revision))
        ask_them_all(running)
        until(lambda: len(story.decisions("shadow_differs")) == 4)
        assert {(row[3], row[4], row[5]) for row in story.decisions("shadow_etag = 'draft-1'")} == {
            ("/api/v1/orders/key", "allow", "deny"),
            ("/api/v1/orders/token", "allow", "deny"),
            ("/api/v1/orders/cookie", "allow", "deny"),
            ("/api/v1/orders/nobody", "deny", "deny"),
        }
        counted = "SELECT shadow_etag, seen, differing, failed, lost FROM decision_counts WHERE seen > 0"
        until(lambda: story.rows(counted) == [("draft-1", 5, 4, 0, 0)])
        metrics = running.get("/metrics").text
        assert 'shadow_decisions_total{result="differs"} 4\n' in metrics
        explained = explain(running, f"{ORDER}key")
        assert explained["explanation"]["decision"]["effect"] == "allow"
        assert (explained["shadow"]["draft"], explained["shadow"]["explanation"]["decision"]["effect"]) == ("draft-1", "deny")

    written = metrics + "".join(each.log.read_text() for each in (running, narrow, silent))
    written += str(story.rows("SELECT d::text, to_jsonb(d)::text FROM decisions AS d"))
    for private in (CANARY, email, API_KEY, API_KEY[-64:], "eyJ", "token=", SESSION, ISSUER):
        assert private not in written, private
