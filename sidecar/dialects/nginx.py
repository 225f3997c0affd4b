"""nginx `auth_request`: the subrequest carries the method and the absolute URL in headers that nginx was told to set.

https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
nginx hands a client's own `X-Forwarded-Uri` and `-Host` on; neither is read. It knows only 2xx, 401 and 403 as answers.
"""

from sidecar.dialects import Malformed, Question, required
from sidecar.http.head import Head, Slot


def question(head: Head) -> Question:
    """What is being asked. Raises `Malformed`. `X-Original-URL` is `$scheme://$http_host$request_uri`.

    The authority ends at the first slash and nowhere else: a client's `Host` with `?`, `#` or `@` in it stays in the host,
    where it is refused, instead of moving the path.
    """
    scheme, separator, rest = required(head[Slot.ORIGINAL_URL]).partition(b"://")
    host, slash, path = rest.partition(b"/")
    if not (separator and slash and scheme and host):
        raise Malformed
    return Question(required(head[Slot.ORIGINAL_METHOD]), scheme, host, slash + path, required(head[Slot.FORWARDED_FOR]))
