"""The demo's identity provider: Canaille, a real one from PyPI, as a process with people, passwords and one client.

`start` writes its configuration with secrets made for this run and starts it. It keeps everything in memory: a restart knows the
same people, whose sessions there are over.
"""

import json
import os
import secrets
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from control_plane.cli.local import owner_alone
from control_plane.cli.processes import Process, accepts, free_port
from sidecar.policy.match import MULTI_FACTOR_ACR

SECOND_FACTOR: Final = MULTI_FACTOR_ACR
"""The `acr_values` for which the provider asks for a one-time code as well."""

_START_SECONDS: Final = 30
_KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Account:
    """A person as the provider knows them. `name` is what they type, and the subject in their tokens."""

    name: str
    email: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(6))
    phone: str = field(default_factory=lambda: secrets.token_hex(8))
    """What their one-time codes are made from."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a provider is and what its one client, the login host, is known by: decided before it runs.

    No host name that a resolver would have to know.
    """

    port: int = field(default_factory=free_port)
    client_id: str = "catalyst"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def issuer(self) -> str:
        """Its issuer."""
        return f"http://127.0.0.1:{self.port}"


def start(place: Place, callback: str, after_logout: str, accounts: Iterable[Account], folder: Path) -> Process:
    """Run the provider until the process is stopped. Raises OperatorError where it does not come up.

    `callback`, `after_logout`: the exact addresses that it may send browsers back to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "provider.json"
    file.unlink(missing_ok=True)
    client = {"id": place.client_id, "secret": place.client_secret, "callback": callback, "after_logout": after_logout}
    with open(file, "x", opener=owner_alone) as opened:
        json.dump(
            {
                "port": place.port,
                "secret_key": secrets.token_urlsafe(32),
                "signing_key": _signing_key(),
                "client": client,
                "accounts": [asdict(account) for account in accounts],
            },
            opened,
        )
    command = [sys.executable, "-m", "control_plane.demo.canaille_server", str(file)]
    process = Process("identity provider", command, folder / "logs" / "identity-provider.log", os.environ)
    return process.wait_until(partial(accepts, f"127.0.0.1:{place.port}"), _START_SECONDS)


def _signing_key() -> str:
    """A new one, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
