"""The injector as a process: what it says to what is no review, its certificates, its end."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from starlette.testclient import TestClient

from control_plane.errors import OperatorError
from control_plane.injector import app
from control_plane.injector.authority import renew
from control_plane.injector.certificates import Certificate
from control_plane.injector.metrics import InjectorMetrics
from control_plane.injector.settings import InjectorSettings
from tests.injector.scene import Injector, injector, refused_to_start, review, settings

POD = {"metadata": {"name": "plain"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
GOOD = review(POD)


def changed(change: Callable[[Any], None]) -> bytes:
    question = json.loads(json.dumps(GOOD))
    change(question)
    return json.dumps(question).encode()


def without_uid(question: Any) -> None:
    del question["request"]["uid"]


MALFORMED = {
    "nothing": (b"", 400, "not_json"),
    "no JSON": (b"apiVersion: admission.k8s.io/v1", 400, "not_json"),
    "cut JSON": (json.dumps(GOOD).encode()[:-1], 400, "not_json"),
    "no UTF-8": (b'{"kind": "\xff"}', 400, "not_json"),
    "NaN": (b"NaN", 400, "not_json"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, 400, "not_json"),
    "a list": (b"[]", 400, "not_a_review"),
    "null": (b"null", 400, "not_a_review"),
    "an old version": (changed(lambda q: q.update(apiVersion="admission.k8s.io/v1beta1")), 400, "not_a_review"),
    "another kind": (changed(lambda q: q.update(kind="ConversionReview")), 400, "not_a_review"),
    "a pod": (json.dumps({"apiVersion": "v1", "kind": "Pod", **POD}).encode(), 400, "not_a_review"),
    "no request": (changed(lambda q: q.pop("request")), 400, "no_request"),
    "a request that is a text": (changed(lambda q: q.update(request="x")), 400, "no_request"),
    "no uid": (changed(without_uid), 400, "no_request"),
    "an empty uid": (changed(lambda q: q["request"].update(uid="")), 400, "no_request"),
    "a long uid": (changed(lambda q: q["request"].update(uid="u" * 1000)), 400, "no_request"),
    "a uid that is a number": (changed(lambda q: q["request"].update(uid=1)), 400, "no_request"),
    "more than anybody sends": (b" " * (5 * 1024 * 1024), 413, "too_large"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_review_is_told_so(case: str, native: Injector) -> None:
    body, status, code = MALFORMED[case]
    answer = native.post(body)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json()["detail"].endswith(".")
    assert native.ask(POD)["allowed"] is True


ODD: dict[str, Any] = {
    "no object": {"object": None},
    "an object that is a list": {"object": []},
    "no kind": {"kind": None},
    "kinds that are lists": {"kind": {"group": [], "version": [], "kind": []}},
    "no operation": {"operation": None},
    "an operation that there is not": {"operation": "ERASE"},
    "a node without groups": {
        "userInfo": "system:node:a",
        "object": {**POD, "metadata": {"annotations": {"kubernetes.io/config.mirror": ""}}},
    },
}


@pytest.mark.parametrize("case", ODD)
def test_a_review_that_is_odd_is_answered_as_a_review(case: str, native: Injector) -> None:
    assert native.ask(POD, **ODD[case])["allowed"] is False


def test_other_media_types_methods_and_paths(native: Injector) -> None:
    assert native.post(json.dumps(GOOD).encode(), "application/yaml").status_code == 415
    assert native.post(json.dumps(GOOD).encode(), "application/json; charset=utf-8").status_code == 200
    assert native.client.get(native.url).status_code == 405
    assert native.client.post(native.url.replace("/mutate?timeout=10s", "/metrics")).status_code == 404


def test_http_and_half_a_request_disturb_nobody(native: Injector) -> None:
    address = native.url.removeprefix("https://").partition("/")[0].split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as plain:
        plain.sendall(b"POST /mutate HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"200" not in plain.recv(1000)
    with context(native.folder / "tls").wrap_socket(
        socket.create_connection((address[0], int(address[1]))), server_hostname="localhost"
    ) as half:
        half.sendall(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    assert native.ask(POD)["allowed"] is True


def test_health_metrics_and_a_log_that_names_nobody(native: Injector) -> None:
    response = native.ask(
        {**POD, "metadata": {"name": "canary-pod", "annotations": {"catalyst-auth/port": "canary text", "canary-key": "1"}}}
    )
    assert response["allowed"] is False
    assert "canary" not in response["status"]["message"]
    assert httpx2.get(f"{native.program.ops}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{native.program.ops}/readyz").json() == {"status": "ready"}
    assert 'injector_reviews_total{code="annotation",dry_run="false",outcome="refused"}' in native.metrics()
    assert 'dry_run="true"' in native.metrics() or native.ask(POD, dryRun=True)["allowed"]
    assert "canary" not in native.program.output.read_text() + native.metrics()
    assert {line["level"] for line in native.program.lines()} <= {"info", "warning"}


def test_a_fault_of_the_injector_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    renew(tmp_path / "tls", ["localhost"])
    monkeypatch.setattr(app, "decide", fail)
    metrics = InjectorMetrics()
    client = TestClient(app.create_app(InjectorSettings.from_environ(settings(tmp_path / "tls")), metrics, asyncio.Event()))
    response = client.post("/mutate", json=GOOD).json()["response"]
    assert (response["allowed"], response["uid"]) == (False, GOOD["request"]["uid"])
    assert (response["status"]["code"], response["status"]["reason"]) == (500, "InternalError")
    assert "secret" not in json.dumps(response)
    labels = {"outcome": "failed", "code": "internal_error", "dry_run": "false"}
    assert metrics.registry.get_sample_value("injector_reviews_total", labels) == 1


def test_a_body_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renew(tmp_path / "tls", ["localhost"])
    monkeypatch.setattr(app, "_BODY_SECONDS", 0.05)
    told = InjectorSettings.from_environ(settings(tmp_path / "tls"))
    sent: list[Any] = []

    async def receive() -> Any:
        return await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"10")]
        scope = {"type": "http", "method": "POST", "path": "/mutate", "query_string": b"", "headers": headers}
        await app.create_app(told, InjectorMetrics(), asyncio.Event())(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"] == "too_slow"


# --- certificates ---------------------------------------------------------------------------------------------------------------


def context(tls: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls / "ca.crt"))


class Mount:
    """A Secret as the kubelet mounts it: links to a folder that is changed over in one step (`..data`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        renew(folder / "source", ["localhost"], addresses=["127.0.0.1"])
        self._change_over()
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)

    def rotate(self) -> None:
        (self.folder / "source" / "tls.crt").unlink()
        renew(self.folder / "source", ["localhost"], addresses=["127.0.0.1"])
        self._change_over()

    def _change_over(self) -> None:
        self._number += 1
        new = self.folder / f"..{self._number}"
        new.mkdir()
        for name in ("tls.crt", "tls.key"):
            (new / name).write_bytes((self.folder / "source" / name).read_bytes())
        (self.folder / "..new").symlink_to(new.name)
        (self.folder / "..new").replace(self.folder / "..data")


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mount, Injector]]:
    folder = tmp_path_factory.mktemp("mounted")
    mount = Mount(folder)
    files = {"CATALYST_INJECTOR_TLS_CERT": str(folder / "tls.crt"), "CATALYST_INJECTOR_TLS_KEY": str(folder / "tls.key")}
    with injector(folder / "server", **files, CATALYST_INJECTOR_OPT_OUT="deny") as server:
        yield mount, server


class Asker(threading.Thread):
    """Asks on, over one connection kept or a new one each time; remembers what failed and which certificates it saw."""

    def __init__(self, server: Injector, tls: Path, *, keep: bool) -> None:
        super().__init__()
        self._port, self._context, self._keep = int(server.program.url.rpartition(":")[2]), context(tls), keep
        self._body = json.dumps(GOOD)
        self.failures: list[Exception] = []
        self.seen: list[bytes] = []
        self.asked = 0
        self.ending = threading.Event()

    def run(self) -> None:
        connection = self._connection()
        while not self.ending.is_set():
            try:
                if not self._keep:
                    connection.close()
                    connection = self._connection()
                connection.request("POST", "/mutate", self._body, {"content-type": "application/json"})
                assert json.loads(connection.getresponse().read())["response"]["allowed"] is True
                self.asked += 1
                found = connection.sock.getpeercert(binary_form=True)
                if found not in self.seen:
                    self.seen.append(found)
            except (OSError, http.client.HTTPException, AssertionError, KeyError, ValueError) as failure:
                self.failures.append(failure)
            time.sleep(0.01)
        connection.close()

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=20, context=self._context)


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_certificates_change_under_load_and_nobody_notices(mounted: tuple[Mount, Injector]) -> None:
    mount, server = mounted
    tls = mount.folder / "source"
    askers = [Asker(server, tls, keep=False), Asker(server, tls, keep=False), Asker(server, tls, keep=True)]
    for asker in askers:
        asker.start()
    try:
        for number in (2, 3):
            until(lambda: all(asker.asked > 5 for asker in askers))
            mount.rotate()
            until(lambda seen=number: all(len(asker.seen) >= seen for asker in askers[:2]))
    finally:
        for asker in askers:
            asker.ending.set()
        for asker in askers:
            asker.join()
    assert [asker.failures for asker in askers] == [[], [], []]
    assert [len(asker.seen) for asker in askers] == [3, 3, 1]
    assert 'injector_certificate_reloads_total{result="done"} 2.0' in server.metrics()


def test_files_that_do_not_belong_together_change_nothing(mounted: tuple[Mount, Injector]) -> None:
    mount, server = mounted
    data = mount.folder / "..data"
    key = (data / "tls.key").read_bytes()
    (data / "tls.key").write_bytes(key[:100])
    until(lambda: 'result="failed"' in server.metrics())
    with httpx2.Client(verify=context(mount.folder / "source")) as fresh:
        assert fresh.post(server.url, json=GOOD).status_code == 200
    (data / "tls.key").write_bytes(key)
    mount.rotate()
    until(lambda: 'result="done"} 3.0' in server.metrics())
    assert "PRIVATE KEY" not in server.program.output.read_text()


def test_opting_out_can_be_forbidden(mounted: tuple[Mount, Injector]) -> None:
    mount, server = mounted
    question = review({**POD, "metadata": {"labels": {"catalyst-auth/inject": "disabled"}}})
    with httpx2.Client(verify=context(mount.folder / "source")) as fresh:
        response = fresh.post(server.url, json=question).json()["response"]
    assert response["allowed"] is False
    assert "remove the label" in response["status"]["message"]


def test_it_leaves_without_a_request_that_fails(mounted: tuple[Mount, Injector]) -> None:
    mount, server = mounted
    with httpx2.Client(verify=context(mount.folder / "source")) as kept:
        assert "connection" not in kept.post(server.url, json=GOOD).headers
        server.program.process.terminate()
        until(lambda: httpx2.get(f"{server.program.ops}/readyz").json() == {"status": "not_ready", "reason": "leaving"})
        # On the connection that there was, and on a new one, for as long as the cluster takes to notice.
        for _ in range(2):
            answer = kept.post(server.url, json=GOOD)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert server.program.process.wait(20) == 0
    assert server.program.lines()[-1]["message"] == "stopped"


def test_it_says_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    said = refused_to_start(CATALYST_INJECTOR_IMAGE="catalyst-sidecar", CATALYST_INJECTOR_TLS_CERT=str(tmp_path / "none"))
    assert said.count("\n") == 4
    for part in (
        "write an image with a tag or a digest",
        "TLS_KEY is not set",
        "there is no file",
        "KUBERNETES_VERSION is not set",
    ):
        assert part in said


@pytest.mark.parametrize("content", ["nothing", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_is_told_at_the_start(tmp_path: Path, content: str) -> None:
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    for file in files:
        file.write_text(content)
    with pytest.raises(OperatorError, match=r"CATALYST_INJECTOR_TLS_CERT .* cannot be used: .* Both must be PEM"):
        Certificate(*files, InjectorMetrics())


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    renew(tmp_path, ["localhost"])
    key = load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    (tmp_path / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(OperatorError, match="the key has a passphrase"):
        Certificate(tmp_path / "tls.crt", tmp_path / "tls.key", InjectorMetrics())
