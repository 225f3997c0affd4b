"""AdmissionReview, admission.k8s.io/v1: read strictly, answered in the same words.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

import base64
from typing import Any, Final

import orjson

from control_plane.injector.injection import Asked, Verdict

MAX_BYTES: Final = 4 * 1024 * 1024
"""The API server takes no object beyond 3 MiB, and shows one: a pod that is made has no old one beside it."""
VERSION: Final = "admission.k8s.io/v1"
_MOST_UID: Final = 256
_STATUS: Final = {"refused": (403, "Forbidden"), "failed": (500, "InternalError")}


class Malformed(Exception):
    """No AdmissionReview that could be answered. `status`: the HTTP status; the message says what to send."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence


def asked(body: bytes) -> Asked:
    """What is asked. Raises `Malformed`."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed(400, "not_json", "The body is not JSON: send an AdmissionReview.") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview" or review.get("apiVersion") != VERSION:
        raise Malformed(
            400, "not_a_review", f"The body is no AdmissionReview of {VERSION}: send one; no other version is answered."
        )
    request = review.get("request")
    uid = request.get("uid") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(uid, str) or not 0 < len(uid) <= _MOST_UID:
        raise Malformed(400, "no_request", "The AdmissionReview has no request with a uid: send one.")
    user, kind = _object(request, "userInfo"), _object(request, "kind")
    groups = user.get("groups")
    return Asked(
        uid=uid,
        operation=_text(request, "operation"),
        subresource=_text(request, "subResource"),
        is_pod=(_text(kind, "group"), _text(kind, "version"), _text(kind, "kind")) == ("", "v1", "Pod"),
        dry_run=request.get("dryRun") is True,
        groups=tuple(one for one in groups if isinstance(one, str)) if isinstance(groups, list) else (),
        object=request.get("object"),
    )


def answer(uid: str, verdict: Verdict) -> bytes:
    """The AdmissionReview that says it. Denied where the verdict holds a refusal."""
    response: dict[str, Any] = {"uid": uid, "allowed": verdict.refusal is None, "auditAnnotations": {"outcome": verdict.outcome}}
    if verdict.refusal is not None:
        code, reason = _STATUS.get(verdict.outcome, _STATUS["failed"])
        message = f"catalyst-auth: {verdict.refusal}"
        response["status"] = {"status": "Failure", "code": code, "reason": reason, "message": message}
    elif verdict.operations:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(verdict.operations)).decode()}
    if verdict.warnings:
        response["warnings"] = [f"catalyst-auth: {text}" for text in verdict.warnings]
    return orjson.dumps({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response})


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def _text(parent: dict[str, Any], key: str) -> str:
    found = parent.get(key)
    return found if isinstance(found, str) else ""
