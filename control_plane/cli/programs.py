"""`catalyst control-plane`, `catalyst worker` and `catalyst sidecar`: each program alone."""

import os
import sys


def control_plane() -> None:
    """Run the control plane alone. Its settings are CATALYST_* environment variables; what is wrong with them is told at once."""
    import uvloop

    from control_plane.server import serve
    from control_plane.settings import Settings

    uvloop.run(serve(Settings.from_environ(os.environ)))


def worker() -> None:
    """Run a worker: it sends webhooks. Its settings are CATALYST_* environment variables, the same as the control plane's."""
    import uvloop

    from control_plane.delivery.worker import run
    from control_plane.settings import Settings

    uvloop.run(run(Settings.from_environ(os.environ)))


def sidecar() -> None:
    """Run the sidecar alone, as `catalyst-sidecar` does. Its settings are CATALYST_* environment variables."""
    # Replaces this process: none of the control plane's parts stay in the sidecar's memory.
    os.execv(sys.executable, [sys.executable, "-m", "sidecar"])  # noqa: S606
