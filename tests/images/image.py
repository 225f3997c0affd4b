"""Reads a Dockerfile, and carries its steps out as processes with `/` moved to a folder: all that can be had of it without Docker.

Packages are not fetched: the ones that the lock names are taken from this environment, which `make` made from the same versions.
A step that is not known here is an error, so nothing in a Dockerfile goes untried unnoticed.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
APT = "apt-get update && apt-get install --yes --no-install-recommends python3-venv"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
DEBIANS_PYTHON = "python3.11"


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile. `stage` counts from 0; -1 is before the first FROM."""

    stage: int
    name: str
    text: str


def steps(file: Path) -> list[Step]:
    """Every instruction, comments left out, lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE))
    found, stage = [], -1
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Step(stage, name, rest.strip()))
    return found


def locked(name: str) -> dict[str, Requirement]:
    """What a lock names, as far as it is for this machine: name to requirement."""
    lines = re.findall(r"^([a-zA-Z0-9][^\\\n]*?) *\\?$", (ROOT / name).read_text(), re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found if one.marker is None or one.marker.evaluate()}


class Assembled:
    """The file system that a Dockerfile makes, in a folder."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.folder = folder
        self.steps = steps(file)
        for step in self.steps:
            if step.stage == 0 and step.name in {"RUN", "COPY"}:
                (self._run if step.name == "RUN" else self._copy)(step.text)
            elif step.stage == 0:
                assert step.name == "FROM", f"nobody tries {step}"

    @property
    def python(self) -> str:
        return self.moved("/app/bin/python")

    def moved(self, path: str) -> str:
        return f"{self.folder}{path}" if path.startswith("/") else path

    def command(self, *arguments: str) -> list[str]:
        """What the container runs, with these arguments in place of CMD."""
        told = {step.name: step.text for step in self.steps if step.stage == 1}
        usual = json.loads(told.get("CMD", "[]"))
        return [self.moved(word) for word in (*json.loads(told["ENTRYPOINT"]), *(arguments or usual))]

    @property
    def environment(self) -> dict[str, str]:
        """ENV of the last stage."""
        [told] = [step.text for step in self.steps if (step.stage, step.name) == (1, "ENV")]
        return dict(word.split("=", 1) for word in shlex.split(told))

    def importable(self, *modules: str) -> dict[str, bool]:
        """Which of these modules are in the image."""
        code = (
            f"import importlib.util, json; print(json.dumps({{m: importlib.util.find_spec(m) is not None for m in {modules!r}}}))"
        )
        done = subprocess.run([self.python, "-I", "-c", code], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def _copy(self, text: str) -> None:
        *sources, target = text.split()
        allowed = (ROOT / ".dockerignore").read_text().splitlines()
        for source in sources:
            assert f"!{source}" in allowed, f".dockerignore keeps {source} out"
            place = Path(self.moved(target.replace(DEBIANS_PYTHON, PYTHON)))
            place = place / source if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)

    def _run(self, text: str) -> None:
        words = shlex.split(text)
        if text in {APT, "python3 -m venv /build"}:
            return  # this environment is that of /build
        if words[:3] == ["python3", "-m", "venv"]:
            self._do(sys.executable, *words[1:])
        elif words[0] == "/build/bin/pip" and "--require-hashes" in words:
            self._install(words[-1].removeprefix("/src/"), into_app="/app/bin/python" in words)
        elif words[0] == "/build/bin/pip":
            assert "--no-index" in words, f"{text} would fetch what no lock names"
            self._do(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words[1:])
        elif words[:3] == ["/app/bin/python", "-m", "compileall"]:
            # Our own code: that of others is only linked to.
            for package in ("sidecar", "control_plane"):
                if (self._packages / package).exists():
                    self._do(*words[:-1], f"/app/lib/{PYTHON}/site-packages/{package}")
        else:
            raise AssertionError(f"nobody tries {text}")

    def _do(self, *words: str) -> None:
        subprocess.run(
            [words[0] if words[0] == sys.executable else self.moved(words[0]), *map(self.moved, words[1:])], check=True
        )

    @property
    def _packages(self) -> Path:
        return self.folder / "app" / "lib" / PYTHON / "site-packages"

    def _install(self, lock: str, *, into_app: bool) -> None:
        """Link to what the lock names, at the very versions that it names."""
        for name, requirement in locked(lock).items():
            found = distribution(name)
            assert requirement.specifier.contains(found.version), f"{lock}: {requirement}, and here is {found.version}: make lock"
            tops = {file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "__pycache__"}}
            for top in sorted(tops) if into_app else ():
                if not (self._packages / top).exists():
                    (self._packages / top).symlink_to(Path(str(found.locate_file(top))).resolve())
