"""`catalyst`: says what to install where the command line's own parts are missing, and hands over to it."""

import signal
import sys
from importlib.util import find_spec

_NEEDED = ("typer", "rich", "httpx2", "fastapi", "ruamel.yaml")


def main() -> None:
    """Run the command line. Exit code 2 where the `control-plane` extra is not installed."""
    missing = [name for name in _NEEDED if find_spec(name.partition(".")[0]) is None]
    if missing:
        print(
            f"catalyst: {', '.join(missing)} not installed: this is the sidecar alone. "
            "For the command line: pip install 'catalyst-auth[control-plane]'; with the guided tour: 'catalyst-auth[demo]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        from control_plane.cli import run

        run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as a shell says it (POSIX, Shell Command Language 2.8.2)


if __name__ == "__main__":
    main()
