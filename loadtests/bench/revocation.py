"""From the commit of a revocation to the first refused check, over and over.

One thread does both: it sends COMMIT without waiting, then asks the sidecar in a busy loop until the answer is a refusal. The
time taken is from just before COMMIT was sent to the arrival of the refusal: commit, flush, notice, apply and one check.
"""

import socket
import statistics
import time
from dataclasses import dataclass

import psycopg
from psycopg.pq.abc import PGconn

from loadtests.bench.servers import CannotMeasure
from loadtests.bench.world import Person

LONGEST_SECONDS = 5.0
REVOKE = b"UPDATE catalyst.sessions SET revoked_at = now() WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Revocations:
    """Milliseconds from COMMIT sent to the refusal received, one for each change."""

    milliseconds: list[float]

    @property
    def median(self) -> float:
        """Half of the changes were enforced within this time."""
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        """99 of 100 were."""
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[98]


def measure(url: str, port: int, people: list[Person]) -> Revocations:
    """Revoke each person's session, one transaction each, by the control plane's role (`url`)."""
    times = []
    with psycopg.connect(url, autocommit=True) as connection, socket.create_connection(("127.0.0.1", port), 5) as checks:
        checks.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for person in people:
            times.append(_one(connection.pgconn, checks, person))
            time.sleep(0.002)
    return Revocations(times)


def _one(database: PGconn, checks: socket.socket, person: Person) -> float:
    request = person.request()
    if _status(checks, request) != 200:
        raise CannotMeasure("a session was refused before it was revoked")
    for statement in (b"BEGIN", b"SELECT set_config('catalyst.orgs', '*', true)"):
        database.exec_(statement)
    if database.exec_params(REVOKE, [str(person.session).encode()]).command_tuples != 1:
        raise CannotMeasure("the session to revoke is not there")
    start = time.perf_counter()
    database.send_query(b"COMMIT")
    database.flush()
    while _status(checks, request) == 200:
        if time.perf_counter() - start > LONGEST_SECONDS:
            raise CannotMeasure(f"a revoked session was still allowed after {LONGEST_SECONDS} seconds")
    elapsed = time.perf_counter() - start
    while database.get_result() is not None:
        pass
    return elapsed * 1000


def _status(checks: socket.socket, request: bytes) -> int:
    """One check on the kept connection. The answers are far smaller than the buffer and come in one piece."""
    checks.sendall(request)
    answer = checks.recv(65536)
    if not answer.startswith(b"HTTP/1.1 "):
        raise CannotMeasure(f"not an answer: {answer[:100]!r}")
    return int(answer[9:12])
