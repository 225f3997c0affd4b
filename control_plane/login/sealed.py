"""What a browser keeps for us and cannot read or change: sealed under CATALYST_SECRET_KEY, each kind with a label of its own."""

import base64
import binascii
import json
import zlib
from typing import Any

from control_plane.errors import OperatorError
from control_plane.sealing import Keyring, seal, unseal

_MOST_BYTES = 64 * 1024


def closed(ring: Keyring, label: str, facts: Any) -> str:
    """Facts, as JSON has them, as the value of a cookie. Compressed: addresses repeat themselves, and cookies are small."""
    packed = zlib.compress(json.dumps(facts, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(seal(ring, label, packed)).rstrip(b"=").decode()


def opened(ring: Keyring, label: str, value: str) -> Any:
    """The facts; None where the value is not one that was sealed here under this label."""
    try:
        sealed = base64.urlsafe_b64decode(value.encode("ascii") + b"=" * (-len(value) % 4))
        return json.loads(zlib.decompressobj().decompress(unseal(ring, label, sealed), _MOST_BYTES))
    except (OperatorError, binascii.Error, UnicodeEncodeError):
        return None
