"""A name that leads out at first and inside the next time; in a machine of its own, where port 53 and public addresses are free.

Started by test_names.py in a namespace of its own for mounts and the network, in which 93.184.215.14 is this machine. It prints what
happened, as JSON. The resolver is the system's; what it asks is the tests' name server.
"""

import fcntl
import json
import socket
import struct
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from control_plane.delivery.sending import Outcome, Sender
from tests.webhooks.attempts import MESSAGE, endpoint
from tests.webhooks.authority import Authority
from tests.webhooks.names import NameServer
from tests.webhooks.receiver import Receiver

PUBLIC: Final = "93.184.215.14"
INSIDE: Final = "127.0.0.1"
HOST: Final = "hook.example"
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_IFF_UP: Final = 1


def main() -> None:
    """What each attempt came to, which questions were asked, who was connected to."""
    authority = Authority()
    with tempfile.TemporaryDirectory() as folder:
        _machine(Path(folder))
        pair = authority.vouch(HOST)
        paths = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        paths[0].write_text(pair.certificate)
        paths[1].write_text(pair.key)
        answers = [PUBLIC, INSIDE, PUBLIC, INSIDE]
        with (
            NameServer({HOST: answers}, port=53) as names,
            _at(PUBLIC, paths) as outside,
            _at(INSIDE, paths, outside.port) as inside,
        ):
            outcomes = uvloop.run(_attempts(f"https://{HOST}:{outside.port}/", authority.certificate))
            seen = {"asked": names.asked, "outside": outside.connections, "inside": inside.connections}
    told = [{"status": outcome.status, "error": outcome.error} for outcome in outcomes]
    print(json.dumps({"outcomes": told, **seen}))


async def _attempts(url: str, bundle: str) -> list[Outcome]:
    """Two over one connection; then each over a new one."""
    sender = Sender(())

    async def attempt(version: str) -> Outcome:
        return await sender.send(endpoint(url, ca_bundle=bundle, version=version), MESSAGE, datetime.now(UTC))

    outcomes = [await attempt(version) for version in ("1", "1", "2", "3", "4")]
    await sender.aclose()
    return outcomes


def _at(address: str, paths: tuple[Path, Path], port: int = 0) -> Receiver:
    return Receiver(address=address, port=port, certificate=paths[0], key=paths[1])


def _machine(folder: Path) -> None:
    """The loopback interface has the public address as well, and names are asked of port 53 there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # As the manual page netdevice(7) has it.
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(PUBLIC))
        fcntl.ioctl(any_socket, _SIOCSIFADDR, address)
    for name, text in {"resolv.conf": f"nameserver {INSIDE}\n", "nsswitch.conf": "hosts: dns\n", "hosts": ""}.items():
        (folder / name).write_text(text)
        subprocess.run(["mount", "--bind", str(folder / name), str(Path("/etc") / name)], check=True)


if __name__ == "__main__":
    main()
