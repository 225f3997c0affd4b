"""Every request that the control plane and the workers send to an address somebody else chose: identity providers, webhooks.

The address is judged where the connection is made, after the name was resolved, and the connection goes to that very address: a
name that answers differently the second time (DNS rebinding) gains nothing. What lies inside (private, loopback, link-local,
mapped and translated addresses, clouds' metadata services) is refused unless the operator names it: CATALYST_OUTBOUND_NETWORKS,
for webhooks CATALYST_WEBHOOK_NETWORKS. No proxy of the environment, no redirect, no cookie, no decompression; body and total
time are bounded.

`Outbound` asks few questions of many places; `Lines` keep connections to places that hear often.
"""

from control_plane.outbound.addresses import Code, OutboundRefused, Resolve, check_url, is_named, is_public, resolve
from control_plane.outbound.client import Answer, Outbound
from control_plane.outbound.guard import believing
from control_plane.outbound.lines import Line, Lines, Reply

__all__ = [
    "Answer",
    "Code",
    "Line",
    "Lines",
    "Outbound",
    "OutboundRefused",
    "Reply",
    "Resolve",
    "believing",
    "check_url",
    "is_named",
    "is_public",
    "resolve",
]
