"""Envoy's `ext_authz` over HTTP: the request line is the client's own, behind a path prefix.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/ext_authz/v3/ext_authz.proto
Envoy hands a client's own `X-Forwarded-Uri`, `-Method` and `-Host` on; none of them is read.
"""

from typing import Final

from sidecar.dialects import Malformed, Question, required
from sidecar.http.head import Head, Slot

PREFIX: Final = b"/forward-auth/envoy"


def question(head: Head) -> Question:
    """What is being asked. Raises `Malformed`."""
    target = required(head[Slot.URL]).removeprefix(PREFIX)
    if not target.startswith(b"/"):
        raise Malformed
    return Question(
        required(head[Slot.METHOD]),
        required(head[Slot.FORWARDED_PROTO]),
        required(head[Slot.HOST]),
        target,
        required(head[Slot.FORWARDED_FOR]),
    )
