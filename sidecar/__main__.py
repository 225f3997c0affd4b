"""`catalyst-sidecar`, the same as `python -m sidecar`."""

import argparse
import asyncio
import os
import socket
import sys
from dataclasses import replace

import uvloop

from sidecar import logs
from sidecar.doubts import tell
from sidecar.listening import CANNOT_START, CannotStart, bind
from sidecar.replica.line import DatabaseUnusable
from sidecar.server import Server
from sidecar.settings import LISTEN, OPS_LISTEN, VARIABLES, Settings, SettingsInvalid, address


def main() -> None:
    """Read the configuration and serve. Exit code 2, and one line for each problem, where that is not possible."""
    arguments = _arguments()
    try:
        settings = Settings.from_environ(os.environ)
        logs.configure(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_serve(settings, arguments))
    except SettingsInvalid as invalid:
        code = _complain(*invalid.problems)
    except (CannotStart, DatabaseUnusable) as problem:
        code = _complain(str(problem))
    sys.exit(code)


async def _serve(settings: Settings, arguments: argparse.Namespace) -> int:
    """Serve as what this process is: the only one, one of several, or the one that looks after them."""
    if arguments.worker is None and settings.workers > 1:
        from sidecar.supervisor import Supervisor  # noqa: PLC0415 - a process that answers checks has no need of it

        return await Supervisor(settings).run()
    if arguments.worker is None:
        sockets = bind(settings.listen, LISTEN), bind(settings.ops_listen, OPS_LISTEN)
        tell(settings)
        await Server(settings).run(*sockets)
    else:
        settings = replace(settings, ops_listen=address(arguments.ops))
        sock = socket.socket(fileno=arguments.check_fd)
        await Server(settings, arguments.worker).run(sock, bind(settings.ops_listen, OPS_LISTEN), leash=sys.stdin.fileno())
    return 0


def _complain(*problems: str) -> int:
    """Say what is wrong, one line each."""
    for problem in problems:
        print(f"catalyst-sidecar: {problem}", file=sys.stderr)  # noqa: T201 - there may be no log to write to yet
    return CANNOT_START


def _arguments() -> argparse.Namespace:
    """The command line. What follows --worker is how a supervisor starts its workers."""
    lines = [f"{variable.name}\n    {variable.meaning} Default: {variable.default or 'none'}." for variable in VARIABLES]
    parser = argparse.ArgumentParser(
        prog="catalyst-sidecar",
        description="Answers forward-auth checks from memory. Configured by environment variables:\n\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--check-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ops", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
