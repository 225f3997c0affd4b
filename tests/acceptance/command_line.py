"""The command line, called as people and scripts call it: a process, or (quicker) its entry point in this one."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from control_plane.cli import run
from tests.acceptance.processes import environment

Done = subprocess.CompletedProcess[str]


def catalyst(*arguments: str, cwd: Path | None = None, **environ: str) -> Done:
    """Run a command with no other Catalyst settings than these."""
    path = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "control_plane", *arguments],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        timeout=60,
        env=environment(PYTHONPATH=path, **environ),
    )


def catalyst_here(*arguments: str, typed: str = "", **environ: str) -> Done:
    """The same in this process. `typed`: its standard input, which is no terminal."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment(**environ), clear=True),
        mock.patch.object(sys, "argv", ["catalyst", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(typed)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done([*arguments], code, out.getvalue(), err.getvalue())
