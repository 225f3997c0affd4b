"""Traefik, Caddy, HAProxy: everything stands in `X-Forwarded-*`, each written by the proxy itself.

https://doc.traefik.io/traefik/middlewares/http/forwardauth/, https://caddyserver.com/docs/caddyfile/directives/forward_auth
"""

from sidecar.dialects import Question, required
from sidecar.http.head import Head, Slot


def question(head: Head) -> Question:
    """What is being asked. Raises `Malformed`. The auth server's own URL, query and `Host` say nothing here."""
    return Question(
        required(head[Slot.FORWARDED_METHOD]),
        required(head[Slot.FORWARDED_PROTO]),
        required(head[Slot.FORWARDED_HOST]),
        required(head[Slot.FORWARDED_URI]),
        required(head[Slot.FORWARDED_FOR]),
    )
