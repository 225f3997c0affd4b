"""`v1a` of the Standard Webhooks specification, which its own library does not verify: Ed25519."""

import base64
import json
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import WebhookVerificationError

TOLERANCE_SECONDS = 300


class PublicKey:
    """`whpk_…`; used as the library's Webhook is."""

    def __init__(self, text):
        self._key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix("whpk_"), validate=True))

    def verify(self, body, headers, *, json_parse=True):
        """Raises WebhookVerificationError, or ValueError for what cannot be read."""
        message_id, timestamp, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
        if abs(int(time.time()) - int(timestamp)) > TOLERANCE_SECONDS:
            raise WebhookVerificationError("too old, or too new")
        signed = f"{message_id}.{timestamp}.".encode() + body
        if not any(self._signed(signed, each) for each in signatures.split(" ")):
            raise WebhookVerificationError("no signature by this key")
        return json.loads(body) if json_parse else None

    def _signed(self, signed, each):
        version, _, signature = each.partition(",")
        if version != "v1a":
            return False
        try:
            self._key.verify(base64.b64decode(signature), signed)
        except InvalidSignature:
            return False
        return True
