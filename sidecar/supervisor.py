"""Several processes that answer checks, and the one that looks after them.

The supervisor binds the check sockets and keeps them open: a worker that dies leaves its waiting connections to its successor.
Every worker has a replica of its own and an ops listener that only the supervisor speaks to.
"""

import asyncio
import logging
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from sidecar.doubts import tell
from sidecar.listening import CANNOT_START, bind, bound_address
from sidecar.logs import fields
from sidecar.metrics import MEDIA_TYPE, Metrics
from sidecar.ops import Ops, Request, Response, as_json
from sidecar.settings import LISTEN, OPS_LISTEN, Address, Settings

log: Final = logging.getLogger(__name__)

RESTART_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
_SAMPLE: Final = re.compile(rb"# (?:HELP|TYPE) (\S+)")


class Supervisor:
    """Starts the workers, starts dead ones again, answers the ops listener for all of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = Path(tempfile.mkdtemp(prefix="catalyst-sidecar-"))
        self._workers = [f"{number}" for number in range(settings.workers)]
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._ending = asyncio.Event()
        self._exit_code = 0
        self._metrics = Metrics()
        self._ops = Ops(
            {
                ("GET", "/healthz"): self._healthz,
                ("GET", "/readyz"): self._readyz,
                ("GET", "/metrics"): self._merged_metrics,
                ("POST", "/explain"): self._explain,
            }
        )

    async def run(self) -> int:
        """Until SIGTERM or SIGINT, and until all workers have drained. The exit code. Raises `CannotStart`."""
        loop = asyncio.get_running_loop()
        sockets = self._check_sockets()
        ops_socket = bind(self._settings.ops_listen, OPS_LISTEN)
        ops = await asyncio.start_server(self._ops.connected, sock=ops_socket)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        listening = {"check": str(bound_address(sockets[0])), "ops": str(bound_address(ops_socket)), "workers": len(sockets)}
        log.info("listening", extra=fields(**listening))
        tell(self._settings)
        try:
            await asyncio.gather(*(self._keep(worker, sock) for worker, sock in zip(self._workers, sockets, strict=True)))
        finally:
            ops.close()
            for sock in sockets:
                sock.close()
            for path in self._directory.iterdir():
                path.unlink()
            self._directory.rmdir()
        return self._exit_code

    def _check_sockets(self) -> list[socket.socket]:
        """A socket for each worker: on one TCP port, over which the kernel spreads connections, or one shared Unix socket."""
        address = self._settings.listen
        first = bind(address, LISTEN)
        if address.path:
            return [first, *(first.dup() for _ in self._workers[1:])]
        address = bound_address(first)
        first.close()  # it has shown that nobody else is there; SO_REUSEPORT would not
        return [bind(address, LISTEN, reuse_port=True) for _ in self._workers]

    def _end(self) -> None:
        """Let the workers drain."""
        self._ending.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def _keep(self, worker: str, sock: socket.socket) -> None:
        """Run one worker, again and again until the end. One that cannot start ends everything."""
        while not self._ending.is_set():
            code = await self._run_worker(worker, sock)
            if self._ending.is_set():
                break
            if code == CANNOT_START:
                self._exit_code = CANNOT_START
                self._end()
                break
            log.error("worker ended", extra=fields(worker=worker, code=code))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), RESTART_SECONDS)

    async def _run_worker(self, worker: str, sock: socket.socket) -> int:
        """One life of a worker."""
        arguments = ("--worker", worker, "--check-fd", str(sock.fileno()), "--ops", str(self._address(worker)))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar", *arguments),
            stdin=asyncio.subprocess.PIPE,  # never written to: it closes when the supervisor is gone
            pass_fds=[sock.fileno()],
        )
        self._processes[worker] = process
        if self._ending.is_set():
            process.send_signal(signal.SIGTERM)
        return await process.wait()

    def _address(self, worker: str) -> Address:
        """Where a worker's ops listener is."""
        return Address(path=str(self._directory / f"{worker}.sock"))

    # --- ops -------------------------------------------------------------------------------------------------------------------

    async def _ask(self, worker: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """A worker's answer: status and body; 503 where it does not answer."""
        request = f"{method} {path} HTTP/1.1\r\nhost: worker\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._address(worker).path)
                writer.write(request)
                head, _, answer = (await reader.read(-1)).partition(b"\r\n\r\n")
                writer.close()
            return int(head.split(b" ")[1]), answer
        except (OSError, TimeoutError, IndexError, ValueError):
            return 503, b'{"ready":false,"reason":"not_ready","revision":null,"lag":null}'

    async def _ask_all(self, path: str) -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(self._ask(worker, "GET", path) for worker in self._workers))

    def _counted(self, response: Response) -> Response:
        self._metrics.health_checks[response.status] += 1
        return response

    async def _healthz(self, _: Request) -> Response:
        """The supervisor's loop turns."""
        return self._counted(as_json(200, {"status": "ok"}))

    async def _readyz(self, _: Request) -> Response:
        """Ready when all workers are: the kernel gives each its share of the connections. Says what the worst off says."""
        answers = [orjson.loads(body) for _, body in await self._ask_all("/readyz")]
        worst = min(answers, key=lambda answer: (answer["ready"], answer["revision"] or -1))
        if self._ending.is_set():
            worst |= {"ready": False, "reason": "draining"}
        return self._counted(as_json(200 if worst["ready"] else 503, worst | {"workers": len(answers)}))

    async def _merged_metrics(self, _: Request) -> Response:
        """All workers' numbers, each labelled with its worker, and the supervisor's own health checks."""
        texts = [body for status, body in await self._ask_all("/metrics") if status == 200]  # noqa: PLR2004 - OK
        return Response(200, merge([*texts, self._metrics.text()]), MEDIA_TYPE)

    async def _explain(self, request: Request) -> Response:
        """Any worker can tell; all have the same replica."""
        if not request.local:
            return as_json(403, {"error": "local_only", "detail": "ask from the sidecar's own machine"})
        return Response(*await self._ask(self._workers[0], "POST", "/explain", request.body))


def merge(texts: Iterable[bytes]) -> bytes:
    """Metrics in Prometheus' text format as one text: each family's lines together, its HELP and TYPE once."""
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for text in texts:
        current: tuple[list[bytes], list[bytes]] = ([], [])
        for line in text.splitlines():
            comment = _SAMPLE.match(line)
            if comment is None:
                current[1].append(line)
                continue
            current = families.setdefault(comment[1], ([], []))
            if line not in current[0]:
                current[0].append(line)
    return b"".join(line + b"\n" for comments, samples in families.values() for line in (*comments, *samples))
