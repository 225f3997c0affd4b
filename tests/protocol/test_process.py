"""The sidecar as a process: from its environment to its end, with a real database."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import psycopg
import pytest

from sidecar.server import HANDSHAKE_SECONDS
from tests.protocol.authority import Authority
from tests.protocol.processes import FREE, change, environment, fill, receive, sidecar
from tests.protocol.relay_end import relay_end, whole
from tests.protocol.world import ALICE, API_KEY, SESSION, question, token

ORDER = "https://orders.example.com/api/v1/orders/1"


def fresh(**claims) -> str:
    now = int(time.time())
    return token(**{"iat": now, "exp": now + 300, "auth_time": now} | claims)


@pytest.fixture
def reader(database):
    """The URL of a filled database for the sidecar's role."""
    fill(database.admin_url)
    return database.url("catalyst_sidecar")


def test_from_a_change_in_the_database_to_the_next_answer(reader, database, tmp_path):
    order = question(url=ORDER, authorization=f"Bearer {fresh()}")
    with sidecar(reader, tmp_path) as found:
        first = found.ask(order)
        assert (first.status, first.headers["x-user-sub"]) == (200, ALICE)
        assert found.ask(question(url=ORDER, x_api_key=API_KEY)).status == 200
        assert found.ask(question(url=ORDER)).error == "missing_credentials"
        revision = change(database.admin_url, f"DELETE FROM grants WHERE profile_id = '{ALICE}'")
        after = found.ask(order.replace(b"\r\n\r\n", f"\r\nX-Catalyst-Min-Revision: {revision}\r\n\r\n".encode()))
        assert (after.status, after.error, after.headers["x-catalyst-revision"]) == (403, "policy_denied", str(revision))
        too_early = found.ask(order.replace(b"\r\n\r\n", f"\r\nX-Catalyst-Min-Revision: {revision + 1}\r\n\r\n".encode()))
        assert (too_early.status, too_early.error) == (503, "stale")


def test_it_registers_the_key_of_its_assertions(reader, database, tmp_path):
    with sidecar(reader, tmp_path), psycopg.connect(database.admin_url) as connection:
        row = connection.execute("SELECT assertion_jwk ->> 'crv', assertion_jwk ? 'd', version FROM catalyst.sidecars").fetchone()
        assert row == ("Ed25519", False, "0.1.0")


def test_ops(reader, tmp_path):
    with sidecar(reader, tmp_path) as found:
        assert found.get("/healthz").json() == {"status": "ok"}
        ready = found.get("/readyz")
        assert (ready.status_code, ready.json()["ready"], ready.json()["reason"]) == (200, True, "")
        assert ready.json()["revision"] > 0
        assert ready.json()["lag"] < 5
        found.ask(question(url=ORDER, x_api_key=API_KEY))
        found.ask(question(url="https://orders.example.com/api/v1/orders/closed", x_api_key=API_KEY))
        text = found.get("/metrics").text
        assert 'forward_auth_requests_total{route="/forward-auth/traefik",status="200"} 1' in text
        assert 'forward_auth_decisions_total{effect="allow",reason="policy_allowed"} 1' in text
        assert 'forward_auth_decisions_total{effect="deny",reason="policy_denied"} 1' in text
        assert 'forward_auth_request_duration_seconds_bucket{route="/forward-auth/traefik",le="+Inf"} 2' in text
        assert 'replica_state{state="live"} 1' in text
        assert found.get("/elsewhere").status_code == 404
        assert httpx2.post(found.ops + "/healthz").status_code == 405


def test_explain(reader, tmp_path):
    def ask(**body) -> httpx2.Response:
        return httpx2.post(found.ops + "/explain", json=body)

    with sidecar(reader, tmp_path) as found:
        allowed = ask(method="GET", url=ORDER, headers={"X-Api-Key": API_KEY}).json()
        assert allowed["explanation"]["decision"]["effect"] == "allow"
        assert allowed["explanation"]["decision"]["rule"] == "read-orders"
        denied = ask(method="POST", url=ORDER, principal={"profile": ALICE, "org": "acme"}).json()
        assert (denied["explanation"]["decision"]["reason"], denied["principal"]["email"]) == (
            "policy_denied",
            "alice@example.com",
        )
        rule = next(rule for rule in denied["explanation"]["rules"] if rule["id"] == "write-orders")
        assert "orders:write" in json.dumps(rule["unmet"])
        assert (
            ask(method="GET", url="https://orders.example.com/a/../b").json()["explanation"]["decision"]["reason"]
            == "ambiguous_request"
        )
        assert (
            ask(method="GET", url=ORDER, headers={"X-Api-Key": "x"}).json()["explanation"]["decision"]["reason"]
            == "invalid_api_key"
        )
        for bad in (
            {},
            {"method": "GET"},
            {"method": 1, "url": ORDER},
            {"method": "GET", "url": ORDER, "principal": {"profile": 7}},
        ):
            assert ask(**bad).status_code == 400
        assert httpx2.post(found.ops + "/explain", content=b"[").status_code == 400


def test_no_secret_in_logs_metrics_or_ops(reader, tmp_path):
    canary = fresh(acr="canary-acr")
    with sidecar(reader, tmp_path, CATALYST_LOG_LEVEL="debug") as found:
        for request in (
            question(url="https://orders.example.com/canary-path?canary-query", authorization=f"Bearer {canary}"),
            question(url="https://canary-host.example.com/", cookie=f"catalyst_session={canary}"),
            question(url=ORDER, x_api_key=API_KEY),
            question(url=ORDER, x_api_key="cak_canary-key"),
            b"canary noise\r\n\r\n",
        ):
            found.ask(request)
        told = found.get("/metrics").text + found.get("/readyz").text
    told += found.log.read_text()
    for secret in (canary, API_KEY, "canary", "alice@example.com", SESSION, "orders.example.com"):
        assert secret not in told


def test_a_unix_socket(reader, tmp_path):
    path = tmp_path / "check.sock"
    for _ in range(2):  # the second time over the file that the first left
        with sidecar(reader, tmp_path, CATALYST_SIDECAR_LISTEN=f"unix:{path}") as found:
            assert found.ask(question(url=ORDER, x_api_key=API_KEY)).status == 200
            found.process.kill()


# --- workers ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True])
def test_workers(reader, tmp_path, unix):
    listen = {"CATALYST_SIDECAR_LISTEN": f"unix:{tmp_path}/check.sock"} if unix else {}
    with sidecar(reader, tmp_path, CATALYST_SIDECAR_WORKERS="2", **listen) as found:
        assert found.get("/readyz").json()["workers"] == 2
        for _ in range(40):
            assert found.ask(question(url=ORDER, x_api_key=API_KEY)).status == 200
        text = found.get("/metrics").text
        assert text.count("# TYPE replica_revision gauge") == 1
        for worker in ("0", "1"):
            assert f'replica_state{{state="live",worker="{worker}"}} 1\n' in text
        counts = [line for line in text.splitlines() if line.startswith("forward_auth_requests_total{")]
        assert sum(float(line.rpartition(" ")[2]) for line in counts) == 40
        assert unix or len(counts) == 2
        explained = httpx2.post(found.ops + "/explain", json={"method": "GET", "url": ORDER})
        assert explained.json()["explanation"]["decision"]["reason"] == "missing_credentials"


def test_a_dead_worker_is_replaced_and_its_queue_is_not_lost(reader, tmp_path):
    with sidecar(reader, tmp_path, CATALYST_SIDECAR_WORKERS="2") as found:
        children = Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children").read_text().split()
        assert len(children) == 2
        subprocess.run(["kill", "-9", children[0]], check=True)
        # Connections that the kernel gives to the dead worker's socket wait for its successor.
        answers = [ask_patiently(found) for _ in range(20)]
        assert answers == [200] * 20
        deadline = time.monotonic() + 15
        while found.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        found.log.write_text(found.log.read_text().replace('"level": "error", "message": "worker ended"', '"expected": true'))


def ask_patiently(found) -> int:
    with found.connect() as connection:
        connection.settimeout(15)
        connection.sendall(question(url=ORDER, x_api_key=API_KEY))
        return receive(connection).status


# --- the end ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_drain_drops_no_answer(reader, tmp_path, workers):
    """Clients that reconnect whenever they are told to, until the listener is gone: every request that was sent was answered."""
    request = question(url=ORDER, x_api_key=API_KEY)
    failures: list[str] = []
    answered = [0]

    def keep_asking() -> None:
        while True:
            try:
                connection = found.connect()
            except OSError:
                return  # refused: a proxy would have gone elsewhere
            with connection:
                try:
                    while True:
                        connection.sendall(request)
                        answer = receive(connection)
                        answered[0] += answer.status == 200
                        if answer.headers.get("connection") == "close":
                            break
                        time.sleep(0.002)
                except (OSError, AssertionError) as error:
                    failures.append(repr(error))
                    return
            if stop.is_set():
                return

    stop = threading.Event()
    with sidecar(reader, tmp_path, CATALYST_SIDECAR_WORKERS=workers, CATALYST_SIDECAR_DRAIN_SECONDS="8s") as found:
        clients = [threading.Thread(target=keep_asking) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        found.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        draining = found.get("/readyz")
        assert (draining.status_code, draining.json()["reason"]) == (503, "draining")
        time.sleep(0.5)  # the balancer needs a moment to see that
        stop.set()
        for client in clients:
            client.join(10)
        assert found.process.wait(10) == 0
    assert failures == []
    assert answered[0] > 100


def test_a_drain_waits_for_what_the_login_is_asked(reader, tmp_path):
    """Longer than it waits for anything else: a browser that has just logged in gets its cookies."""

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3)
        writer.write(whole({"status": 303, "location": "/"}))

    async def scenario() -> tuple[int, int]:
        async with relay_end() as end:
            end.answering = slowly
            variables = {"CATALYST_LOGIN_RELAY_URL": end.url, "CATALYST_SIDECAR_DRAIN_SECONDS": "10s"}
            with sidecar(reader, tmp_path, **variables) as found:
                asked = asyncio.create_task(
                    asyncio.to_thread(found.ask, question(url="https://orders.example.com/.catalyst/start"))
                )
                async with asyncio.timeout(10):
                    while not end.asked:  # noqa: ASYNC110  (another process asks)
                        await asyncio.sleep(0.02)
                found.process.send_signal(signal.SIGTERM)
                return (await asked).status, await asyncio.to_thread(found.process.wait, 10)

    assert asyncio.run(scenario()) == (303, 0)


def test_a_drain_ends_when_its_time_is_over(reader, tmp_path):
    with sidecar(reader, tmp_path, CATALYST_SIDECAR_DRAIN_SECONDS="500ms") as found, found.connect() as idle:
        idle.sendall(question(url=ORDER, x_api_key=API_KEY))
        assert receive(idle).status == 200
        started = time.monotonic()
        found.process.send_signal(signal.SIGTERM)
        assert found.process.wait(5) == 0
        assert time.monotonic() - started < 3
        assert idle.recv(1) == b""


# --- what cannot start ------------------------------------------------------------------------------------------------------------


def start(database_url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = FREE | variables
    command = [sys.executable, "-m", "sidecar", *arguments]
    return subprocess.run(
        command, env=environment(database_url, **settings), capture_output=True, text=True, timeout=20, check=False
    )


def test_an_address_that_is_taken(reader, tmp_path):
    with sidecar(reader, tmp_path) as found:
        taken = f"127.0.0.1:{found.check[1]}"
        for workers in ("1", "2"):
            done = start(reader, CATALYST_SIDECAR_LISTEN=taken, CATALYST_SIDECAR_WORKERS=workers)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert done.stderr.startswith(f"catalyst-sidecar: cannot listen on {taken}: Address already in use")


def test_settings_that_cannot_be():
    done = start("postgresql://u:hunter2@h/d", CATALYST_SIDECAR_ON_STALE="perhaps", CATALYST_SIDECAR_WORKERS="many")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_database_that_nobody_migrated(empty_database, workers):
    done = start(empty_database.url("catalyst_sidecar"), CATALYST_SIDECAR_WORKERS=workers)
    assert done.returncode == 2
    assert "catalyst migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_tls_files_that_are_none(reader, tmp_path):
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    done = start(reader, CATALYST_SIDECAR_TLS_CERT=str(nonsense), CATALYST_SIDECAR_TLS_KEY=str(nonsense))
    assert (done.returncode, len([line for line in done.stderr.splitlines() if "TLS" in line])) == (2, 1)
    assert "Traceback" not in done.stderr


def test_without_a_database_it_says_that_it_is_not_ready(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar"],
        env=environment(
            "postgresql://nobody@127.0.0.1:1/x",
            CATALYST_SIDECAR_LISTEN=f"unix:{tmp_path}/c",
            CATALYST_SIDECAR_OPS_LISTEN=f"unix:{tmp_path}/o",
        ),
        stderr=subprocess.PIPE,
    ) as process:
        try:
            transport = httpx2.HTTPTransport(uds=f"{tmp_path}/o", retries=20)
            deadline = time.monotonic() + 15
            while not (tmp_path / "o").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with httpx2.Client(transport=transport, base_url="http://ops") as client:
                ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["reason"]) == (503, "not_ready")
        finally:
            process.terminate()
            process.communicate(timeout=15)


def test_help_names_every_variable():
    done = start("", "--help")
    assert done.returncode == 0
    assert "CATALYST_SIDECAR_MAX_STALENESS" in done.stdout


# --- TLS --------------------------------------------------------------------------------------------------------------------------


def test_tls_and_mutual_tls(reader, tmp_path):
    authority, folder = Authority(tmp_path), tmp_path / "others"
    folder.mkdir()
    stranger = Authority(folder)
    certificate, key = authority.issue("sidecar")

    def ask(found, client: tuple[str, str] | None) -> int:
        context = ssl.create_default_context(cafile=authority.path)
        if client:
            context.load_cert_chain(*client)
        with found.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(question(url=ORDER, x_api_key=API_KEY))
            return receive(connection).status

    tls = {"CATALYST_SIDECAR_TLS_CERT": certificate, "CATALYST_SIDECAR_TLS_KEY": key}
    with sidecar(reader, tmp_path, **tls) as found:
        assert ask(found, None) == 200
        with found.connect() as plain:  # a peer without TLS hears nothing
            plain.sendall(question(url=ORDER, x_api_key=API_KEY))
            assert b"HTTP" not in plain.recv(100)
        with found.connect() as silent:  # and one that says nothing is not waited for
            silent.settimeout(HANDSHAKE_SECONDS * 2)
            assert silent.recv(100) == b""
    with sidecar(reader, tmp_path, **tls, CATALYST_SIDECAR_TLS_CLIENT_CA=authority.path) as found:
        assert ask(found, authority.issue("proxy")) == 200
        for bad in (None, stranger.issue("proxy")):
            with pytest.raises((ssl.SSLError, OSError, AssertionError)):
                ask(found, bad)
