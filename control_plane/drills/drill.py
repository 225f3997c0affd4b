"""`catalyst drill`: prove that a backup can be restored and that what comes back works.

Restored into a database that is made for it and dropped afterwards, the backup must open with the secret key, list, compile,
verify, and let a real sidecar answer real requests. What fails does not keep the other checks from being made.
"""

import asyncio
import getpass
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import asyncpg
import httpx2
import psycopg

from control_plane.db.backup import Manifest, backup
from control_plane.db.cluster import OWNER
from control_plane.db.pool import create_pool
from control_plane.db.programs import Progress
from control_plane.db.restore import checked, restore
from control_plane.drills import checks, scratch
from control_plane.errors import ApiError, OperatorError
from control_plane.settings import Settings

Result = Literal["passed", "failed", "not reached"]
Found = TypeVar("Found")

MADE: Final = "The backup is whole"
RESTORED: Final = "It restores, every row as it was"
SIDECAR: Final = "A sidecar answers as the engine says"
ON_THE_DATABASE: Final[dict[str, Callable[[checks.Restored], Awaitable[str]]]] = {
    "The secret key opens what is sealed": checks.keys_open,
    "Profiles and entitlements list": checks.people_list,
    "The audit chains verify": checks.audit_verifies,
    "Policies compile": checks.policies_compile,
    "Pending deliveries are there": checks.deliveries_wait,
}
_STATEMENT_SECONDS: Final = 300.0
STEPS: Final = (MADE, RESTORED, *ON_THE_DATABASE, SIDECAR)


@dataclass
class Step:
    """One thing that was to be proved. `told`: what was found; `problems`: what did not hold, and where."""

    name: str
    result: Result = "not reached"
    told: str = ""
    problems: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass
class Drill:
    """One drill. `settings`: of the control plane whose database is drilled; `given`: a backup to drill instead of a new one."""

    settings: Settings
    given: Path | None
    embedded: bool
    tell: Callable[[Step], None]
    progress: Progress
    steps: list[Step] = field(default_factory=lambda: [Step(name) for name in STEPS])
    manifest: Manifest | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    @property
    def passed(self) -> bool:
        """Whether everything was proved."""
        return all(step.result == "passed" for step in self.steps)

    def run(self) -> None:
        """Every step; afterwards nothing is left but what is in `steps`."""
        try:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalyst-drill-")))
                with self._step(MADE) as step:
                    file = self._backup(folder, step)
                if self.manifest is None:
                    return
                url = stack.enter_context(scratch.embedded() if self.embedded else scratch.beside(self.settings.database_url))
                with self._step(RESTORED) as step:
                    restore(url, file, self.manifest, self.progress)
                    step.told = f"{self.manifest.rows} rows in {len(self.manifest.tables)} tables"
                if step.result == "passed":
                    self._examine(url, self.manifest, folder)
        finally:
            self.ended = datetime.now(UTC)

    def facts(self) -> dict[str, Any]:
        """All that a report tells, as plain data."""
        assert self.ended is not None  # noqa: S101  (`run` has ended)
        return {
            "result": "passed" if self.passed else "failed",
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round((self.ended - self.began).total_seconds(), 3),
            "by": f"{getpass.getuser()} on {platform.node()}",
            "program": version("catalyst-auth"),
            "restored_to": "an embedded PostgreSQL" if self.embedded else "the same server, under a generated name",
            "backup": None if self.manifest is None else self._backup_facts(self.manifest),
            "steps": [
                {"name": step.name, "result": step.result, "told": step.told, "problems": list(step.problems),
                 "seconds": round(step.seconds, 3)}
                for step in self.steps
            ],
        }  # fmt: skip

    def _backup_facts(self, manifest: Manifest) -> dict[str, Any]:
        named = {"file": "made for this drill" if self.given is None else str(self.given)}
        return named | manifest.model_dump(mode="json", exclude={"format"})

    def _backup(self, folder: Path, step: Step) -> Path:
        file = self.given or folder / "drill.dump"
        if self.given is None:
            backup(self.settings.database_url, file, self.progress)
        self.manifest = manifest = checked(file)
        step.told = f"{manifest.size} bytes at revision {manifest.revision}, SHA-256 {manifest.sha256}"
        return file

    def _examine(self, url: str, manifest: Manifest, folder: Path) -> None:
        for name, check in ON_THE_DATABASE.items():
            with self._step(name) as step:
                step.told = asyncio.run(self._on_database(url, manifest, check))
        with self._step(SIDECAR) as step:
            prepared = asyncio.run(self._on_database(url, manifest, checks.find_questions))
            step.told = checks.sidecar_answers(url, self.settings, prepared, folder)

    async def _on_database(self, url: str, manifest: Manifest, check: Callable[[checks.Restored], Awaitable[Found]]) -> Found:
        async with await create_pool(url, OWNER, size=2, statement_seconds=_STATEMENT_SECONDS) as pool:
            return await check(checks.Restored(pool, self.settings, manifest))

    @contextmanager
    def _step(self, name: str) -> Iterator[Step]:
        """Time a step, and keep what went wrong in it."""
        step = next(step for step in self.steps if step.name == name)
        start = time.monotonic()
        step.result = "failed"
        try:
            yield step
            step.result = "passed"
        except (checks.Failed, OperatorError) as failure:
            step.problems = failure.problems
        except ApiError as refusal:
            step.problems = (refusal.detail,)
        except (psycopg.Error, asyncpg.PostgresError, httpx2.HTTPError, OSError) as lost:
            step.problems = (f"{type(lost).__name__}: {str(lost).partition(chr(10))[0]}",)
        finally:
            step.seconds = time.monotonic() - start
            self.tell(step)
