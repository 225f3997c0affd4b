"""The receivers of docs/guides/receiving-webhooks.md as their users start them: programs, with the public libraries."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.cli.processes import accepts, free_port

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "guides" / "receivers"
LANGUAGES = ("python", "javascript")


@dataclass
class Program:
    """A receiver that runs, in a folder where its inbox is."""

    command: list[str]
    folder: Path
    keys: str
    address: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def start(self) -> None:
        environ = {**os.environ, "WEBHOOK_KEYS": self.keys}
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=environ, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while not accepts(self.address):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, "the receiver does not listen"
            time.sleep(0.01)

    def kill(self) -> None:
        """As a power cut would end it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(20)

    def handled(self, count: int, seconds: float = 20) -> list[list[str]]:
        """Type and id of what it worked through, as soon as there are so many."""
        deadline = time.monotonic() + seconds
        while len(found := self._handled()) < count:
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.01)
        return found

    def _handled(self) -> list[list[str]]:
        lines = (line.split() for line in self.output.read_text().splitlines())
        return [rest for first, *rest in lines if first == "handled"]


@contextlib.contextmanager
def receiver(language: str, keys: str, port: int = 0) -> Iterator[Program]:
    """One of the guide's receivers; skips where its language is not installed. `keys`: one or several, with spaces between."""
    port = port or free_port()
    if language == "python":
        command = [sys.executable, str(FOLDER / "receiver.py"), str(port)]
    else:
        command = ["node", str(installed() / "receiver.mjs"), str(port)]
    with tempfile.TemporaryDirectory(prefix="catalyst-receiver-") as folder:
        program = Program(command, Path(folder), keys, f"127.0.0.1:{port}")
        try:
            program.start()
            yield program
        finally:
            program.kill()


def installed() -> Path:
    """A folder with the JavaScript receiver and the packages that its lock names.

    It is kept beside this Python's packages, once for each state of the files: the first time npm asks its registry.
    """
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in {".json", ".mjs"})
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
    ready = Path(sys.prefix) / "npm" / f"receivers-{state}"
    if not ready.exists():
        ready.parent.mkdir(exist_ok=True)
        _install(files, ready)
    return ready


def _install(files: list[Path], ready: Path) -> None:
    """In a folder of its own first: two test sessions may do it at once, and the first one's is taken."""
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=ready.parent) as folder:
        for path in files:
            shutil.copy(path, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr
        made = Path(shutil.copytree(folder, f"{folder}-whole"))
    with contextlib.suppress(OSError):
        made.rename(ready)
    shutil.rmtree(made, ignore_errors=True)
