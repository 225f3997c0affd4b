"""Receives webhooks: proves each, keeps it, answers at once, works later.

pip install standardwebhooks cryptography
WEBHOOK_KEYS='whsec_…' python receiver.py 8001

WEBHOOK_KEYS: the secret of the webhook, or its public key (whpk_…); where there are several, with spaces between.
"""

import json
import logging
import os
import sqlite3
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ed25519 import PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

KEYS = [PublicKey(key) if key.startswith("whpk_") else Webhook(key) for key in os.environ["WEBHOOK_KEYS"].split()]
INBOX = os.environ.get("WEBHOOK_INBOX", "inbox.db")
MOST_BYTES = 1_000_000
arrived = threading.Event()
log = logging.getLogger("receiver")


def handle(event):
    """Your part. Where it raises, it is called again later, with the same event."""
    print("handled", event["type"], event["data"]["id"], flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 90  # more than senders keep a connection that rests
    wbufsize = -1  # an answer in one packet

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True
            return self.answer(413, "a body of unknown length, or too long")
        body = self.rfile.read(int(length))
        # One value for each name, the same for the proof and for what is done with it.
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not proved(body, headers):
            return self.answer(401, "not signed by whom we expect, or not just now")
        new = keep(headers["webhook-id"], body)
        arrived.set()
        return self.answer(202, "kept") if new else self.answer(200, "known already")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def proved(body, headers):
    """Whether the holder of one of the keys sent exactly this, in the last five minutes."""
    for key in KEYS:
        try:
            key.verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):
            continue
        return True
    return False


def keep(message_id, body):
    """Write it down, once. False for what is there already: a delivery repeated, by us or by a thief."""
    with closing(sqlite3.connect(INBOX)) as inbox, inbox:
        return inbox.execute("INSERT OR IGNORE INTO inbox (id, body) VALUES (?, ?)", (message_id, body)).rowcount == 1


def work():
    """Handle what was kept, in the order in which it came; after a restart as well."""
    while True:
        arrived.clear()
        try:
            with closing(sqlite3.connect(INBOX)) as inbox:
                for message_id, body in inbox.execute("SELECT id, body FROM inbox WHERE NOT done ORDER BY rowid").fetchall():
                    handle(json.loads(body))
                    with inbox:
                        inbox.execute("UPDATE inbox SET done = true WHERE id = ?", (message_id,))
        except Exception:
            log.exception("it is tried again in ten seconds")
        arrived.wait(10)


if __name__ == "__main__":
    with closing(sqlite3.connect(INBOX)) as inbox, inbox:
        inbox.execute("CREATE TABLE IF NOT EXISTS inbox (id text PRIMARY KEY, body blob, done bool DEFAULT false)")
    threading.Thread(target=work, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
