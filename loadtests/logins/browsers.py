"""Browsers that log in, many at once: from an application's page to the provider and back, as a program of its own.

    python -m loadtests.logins.browsers '{"sidecar": 8787, "logins": 200, "browsers": 20, "people": 100}'

Prints one JSON object: `milliseconds` of each login from its first request to the page that was wanted, and what `failed`.
"""

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urljoin, urlsplit

from gevent.pool import Pool
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse

HOST = "orders.example.com"
_TIMEOUT = 60.0
_REDIRECTS = 12


class UnexpectedAnswer(Exception):
    """A login that went another way than to the page."""


@dataclass
class Doors:
    """Connections to who is asked: the sidecar for the application's host, others as addresses name them."""

    sidecar: int
    clients: dict[int, HTTPClient] = field(default_factory=dict)

    def get(self, url: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        """Status, Location and new cookies of an answer."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        port = parts.port or 0
        if parts.hostname == HOST:
            forwarded = {"x-forwarded-method": "GET", "x-forwarded-proto": "http", "x-forwarded-host": HOST}
            headers = headers | forwarded | {"x-forwarded-uri": target}
            port, target = self.sidecar, "/forward-auth/traefik"
        answer = self._client(port).get(target, headers)
        answer.read()
        return answer.status_code, str(answer.get("location") or ""), _cookies(answer)

    def _client(self, port: int) -> HTTPClient:
        if port not in self.clients:
            self.clients[port] = HTTPClient(
                "127.0.0.1", port, concurrency=1000, connection_timeout=_TIMEOUT, network_timeout=_TIMEOUT
            )
        return self.clients[port]


def _cookies(answer: HTTPSocketPoolResponse) -> dict[str, str]:
    lines = [value for name, value in answer.headers if name.lower() == "set-cookie"]
    pairs = (line.partition(";")[0].partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def log_in(doors: Doors, number: int, people: int) -> None:
    """One login in a browser without a cookie. Raises UnexpectedAnswer where it does not end at the page."""
    who = f"login_hint=user-{number % people}"
    jars: dict[str, dict[str, str]] = {}
    url = f"http://{HOST}/api/v1/orders/{number}?expand=items"
    headers = {
        "accept": "text/html",
        "sec-fetch-mode": "navigate",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "x-forwarded-for": f"198.18.{number // 250 % 250}.{number % 250}",
    }
    for _ in range(_REDIRECTS):
        parts = urlsplit(url)
        jar = jars.setdefault(parts.netloc, {})
        sent = headers | ({"cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {})
        status, location, cookies = doors.get(f"{url}&{who}" if parts.path == "/authorize" else url, sent)
        jar |= cookies
        if status == 200 and parts.netloc == HOST:
            return
        if status not in {302, 303}:
            raise UnexpectedAnswer(f"{status} for {parts.netloc}{parts.path}")
        url = urljoin(url, location)
    raise UnexpectedAnswer("redirects without end")


def main() -> None:
    """All logins; a login that failed is counted by how."""
    asked = json.loads(sys.argv[1])
    doors, numbers = Doors(asked["sidecar"]), count()
    milliseconds: list[float] = []
    failed: Counter[str] = Counter()

    def browse() -> None:
        while (number := next(numbers)) < asked["logins"]:
            began = time.perf_counter()
            try:
                log_in(doors, number, asked["people"])
            except (UnexpectedAnswer, OSError) as problem:
                failed[f"{type(problem).__name__}: {problem}"] += 1
            else:
                milliseconds.append((time.perf_counter() - began) * 1000)

    pool = Pool(asked["browsers"])
    for _ in range(asked["browsers"]):
        pool.spawn(browse)
    pool.join()
    print(json.dumps({"milliseconds": milliseconds, "failed": failed}))


if __name__ == "__main__":
    main()
