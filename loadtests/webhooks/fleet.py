"""Workers as processes: three, of which the last is killed with -9 every few seconds and started again at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from control_plane.cli.processes import Process, answers, free_port
from loadtests.bench.servers import CannotMeasure, resident_mib

WORKERS = 3
_START_SECONDS = 60
_DRAIN_SECONDS = 60
_SAMPLE_SECONDS = 1.0
_POLL_SECONDS = 0.05


@dataclass
class Fleet:
    """`resident`: of each worker but the last, which dies, its memory in MiB over time."""

    folder: Path
    environ: Mapping[str, str]
    size: int = WORKERS
    workers: list[Process] = field(default_factory=list)
    resident: list[list[float]] = field(default_factory=list)
    kills: int = 0
    exits: list[int | None] = field(default_factory=list)

    def start(self) -> None:
        """All of them, until each is ready."""
        for number in range(self.size):
            self.workers.append(self._worker(number))
        self.resident = [[] for _ in self.workers[:-1]]

    def kill_one(self) -> None:
        """Kill the last one, and start another in its place. Called by the thread that started them: they end with it (prctl(2))."""
        os.kill(self.workers[-1].pid, signal.SIGKILL)
        self.kills += 1
        self.workers[-1].stop()
        self.workers[-1] = self._worker(self.size - 1)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note the memory of the steady ones, until the block ends."""
        enough = threading.Event()
        thread = threading.Thread(target=self._watch, args=(enough,))
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join(_START_SECONDS)

    def stop(self) -> None:
        """SIGTERM to all at once: each ends the turns that it has."""
        for worker in self.workers:
            if worker.exit_code is None:
                os.kill(worker.pid, signal.SIGTERM)
        end = time.monotonic() + _DRAIN_SECONDS
        while any(worker.exit_code is None for worker in self.workers) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        self.exits = [worker.exit_code for worker in self.workers]
        for worker in self.workers:
            worker.stop()

    def _worker(self, number: int) -> Process:
        ops = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "control_plane", "worker"]
        environ = {**self.environ, "CATALYST_WORKER_OPS_LISTEN": ops}
        worker = Process(f"worker {number}", command, self.folder / f"worker-{number}.log", environ)
        return worker.wait_until(lambda: answers(ops), _START_SECONDS)

    def _watch(self, enough: threading.Event) -> None:
        while not enough.wait(_SAMPLE_SECONDS):
            for worker, samples in zip(self.workers, self.resident, strict=False):
                try:
                    samples.append(resident_mib(worker.pid))
                except (CannotMeasure, FileNotFoundError):
                    return
