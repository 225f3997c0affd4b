"""The policy engine a second time: plain, slow, written from the policy guide and not from the engine.

It reads the raw document, looks at every rule of it in turn, and reads the request byte by byte. It shares no code with the
engine; of its modules it uses only the data type `Principal`. Documents must be valid: what they may say is tested elsewhere.
"""

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network
from zoneinfo import ZoneInfo

from sidecar.policy.model import Principal

NEVER_IN_A_TARGET = set(range(0x21)) | {0x7F, ord("#"), ord("\\")}
STAY_ENCODED = {"2f", "5c", "25", "3b", "3f", "23"}
HEX = "0123456789abcdefABCDEF"


class Refusal(Exception):
    """The request is refused before any rule is asked."""


@dataclass
class Read:
    """A request as rules see it."""

    method: str
    host: str
    segments: list
    client: object
    exceptions: set = field(default_factory=set)


@dataclass
class Verdict:
    """What should come out."""

    effect: str
    reason: str
    rule: str = ""
    obligations: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    step_up: tuple | None = None
    matched: set = field(default_factory=set)


def judge(document, question, principal: Principal, now: float) -> Verdict:
    """The verdict on `question`: method, scheme, host, target (bytes) and client (text)."""
    try:
        request = read(*question)
    except Refusal as refusal:
        return Verdict("deny", str(refusal))
    place = [rule for rule in document["rules"] if is_about(rule, request)]
    denies = [rule for rule in place if rule["effect"] == "deny"]
    opened = [rule for rule in place if rule["effect"] == "allow" and request.exceptions <= set(opens(rule))]
    matching = [rule for rule in [*denies, *opened] if matches(rule, request, principal, now)]
    ids = {rule["id"] for rule in matching}
    if matching:
        return granted_or_denied(matching[0], ids)
    if request.exceptions and not opened:
        return Verdict("deny", "ambiguous_request")
    if principal.kind == "anonymous":
        return Verdict("deny", "missing_credentials")
    if principal.kind == "session":
        for rule in opened:
            without = {key: value for key, value in rule.get("when", {}).items() if key not in {"mfa", "acr", "max_auth_age"}}
            if matches({**rule, "when": without}, request, principal, now):
                return Verdict("deny", "step_up_required", step_up=stronger_login(rule["when"]))
    return Verdict("deny", "policy_denied")


def granted_or_denied(rule, ids) -> Verdict:
    """The verdict of a rule that matched."""
    reason = rule.get("reason", f"policy.rule.{rule['id']}.{rule['effect']}")
    headers = {name.lower(): value for name, value in rule.get("headers", {}).items()}
    return Verdict(rule["effect"], reason, rule["id"], rule.get("obligations", {}), headers, None, ids)


def opens(rule):
    """The sequences that a rule accepts in a path."""
    return [sequence.lower() for sequence in rule.get("allow_ambiguous", [])]


def stronger_login(when):
    """Values for `acr_values`, `max_age`, and whether it takes a second factor."""
    values = tuple(when.get("acr", ()))
    if not values and when.get("mfa"):
        values = ("http://schemas.openid.net/pape/policies/2007/06/multi-factor",)
    return values, seconds(when["max_auth_age"]) if "max_auth_age" in when else None, when.get("mfa", False)


# --- where a rule applies ---


def is_about(rule, request) -> bool:
    """Whether method, host and one of the paths are the rule's."""
    if "methods" in rule and request.method not in rule["methods"]:
        return False
    if "hosts" in rule and not any(same_host(host, request.host) for host in rule["hosts"]):
        return False
    return any(binding(pattern, request.segments) is not None for pattern in rule["paths"])


def same_host(pattern, host) -> bool:
    """Whether the host is the pattern, or one label longer than what follows `*.`."""
    if pattern.startswith("*."):
        return host.count(".") == pattern.count(".") and host.endswith(pattern[1:])
    return host == pattern


def binding(pattern, segments):
    """What the placeholders stand for, None where the path does not match."""
    wanted = [] if pattern == "/" else pattern[1:].split("/")
    bound: dict = {}
    have = list(segments)
    while wanted:
        want = wanted.pop(0)
        if want == "**":
            return bound
        if not have:
            return None
        got = have.pop(0)
        if want.startswith("{"):
            if not got:
                return None
            bound[want[1:-1]] = got
        elif want == "*":
            if not got:
                return None
        elif want != got:
            return None
    return None if have else bound


# --- whom a rule applies to ---


def matches(rule, request, principal, now) -> bool:
    """Whether everything under `when` holds."""
    when = rule.get("when", {})
    if principal.kind == "anonymous" and not when.get("anonymous", rule["effect"] == "deny"):
        return False
    for key, wanted in when.items():
        if key == "bind":
            if not any(bound_right(pattern, request, wanted, principal) for pattern in rule["paths"]):
                return False
        elif key != "anonymous" and not CHECKS[key](wanted, request, principal, now):
            return False
    return True


def bound_right(pattern, request, wanted, principal) -> bool:
    """Whether one path matches with its placeholders equal to what they are bound to."""
    bound = binding(pattern, request.segments)
    return bound is not None and all(
        bound[name] != "" and bound[name] == value_of(principal, what) for name, what in wanted.items()
    )


def value_of(principal, name):
    """An attribute of the principal."""
    if name.startswith("labels."):
        return as_text(principal.labels.get(name[len("labels.") :]))
    return {
        "org.id": principal.org_id,
        "org.slug": principal.org_slug,
        "profile.id": principal.sub,
        "profile.email": principal.email,
        "session.id": principal.session_id,
    }[name]


def as_text(value):
    """A label as text."""
    if value is True or value is False:
        return str(value).lower()
    return None if value is None else str(value)


def names_held(kind):
    """A check of entitlements, roles, groups or scopes."""

    def check(wanted, _request, principal, _now):
        held = list(getattr(principal, kind))
        for name in wanted.get("all", []):
            if name not in held:
                return False
        some = wanted.get("any", [])
        return not some or any(name in held for name in some)

    return check


def labels(wanted, _request, principal, _now):
    """Required labels are there, forbidden ones are not."""
    for name, value in wanted.get("require", {}).items():
        if as_text(principal.labels.get(name)) != as_text(value):
            return False
    return all(as_text(principal.labels.get(name)) != as_text(value) for name, value in wanted.get("forbid", {}).items())


KNOWN_BY = {"pwd": "knows", "pin": "knows", "kba": "knows"}
KNOWN_BY |= dict.fromkeys(["hwk", "swk", "sc", "otp", "sms", "tel", "pop"], "has")
KNOWN_BY |= dict.fromkeys(["fpt", "face", "iris", "retina", "vbm"], "is")


def mfa(wanted, _request, principal, _now):
    """Two kinds of factors, or the issuer says so."""
    return not wanted or "mfa" in principal.amr or len({KNOWN_BY[method] for method in principal.amr if method in KNOWN_BY}) >= 2


def acr(wanted, _request, principal, _now):
    """One of the classes."""
    return any(value == principal.acr for value in wanted)


def max_auth_age(wanted, _request, principal, now):
    """A login that is recent enough."""
    return principal.auth_time != 0 and principal.auth_time + seconds(wanted) >= now


def seconds(duration) -> int:
    """A duration in seconds."""
    if isinstance(duration, int):
        return duration
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}[duration[-1]]


def source(wanted, request, _principal, _now):
    """An address in one of the networks."""
    return any(request.client.version == ip_network(net).version and request.client in ip_network(net) for net in wanted)


def time(wanted, _request, _principal, now):
    """Inside the window, minute by minute: is there a start on an allowed day from which the window has not ended yet?"""
    local = datetime.fromtimestamp(now, ZoneInfo(wanted.get("tz", "UTC")))
    minute = local.hour * 60 + local.minute
    after, before = clock(wanted.get("after", "00:00")), clock(wanted["before"]) if "before" in wanted else 24 * 60
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    for days_ago in (0, 1):
        began_on = days[(local.weekday() - days_ago) % 7]
        end = before if after < before else before + 24 * 60
        if began_on in wanted.get("days", days) and after <= minute + days_ago * 24 * 60 < end:
            return True
    return False


def clock(text) -> int:
    """Minutes since midnight."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


CHECKS = {kind: names_held(kind) for kind in ("entitlements", "roles", "groups", "scopes")}
CHECKS |= {"labels": labels, "mfa": mfa, "acr": acr, "max_auth_age": max_auth_age, "source": source, "time": time}


# --- one reading of a request ---


def read(method, scheme, host, target: bytes, client) -> Read:
    """The request as rules see it. Raises `Refusal`."""
    capitals, tail = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
    if not 1 <= len(method) <= 32 or method[0] not in capitals or any(letter not in tail for letter in method):
        raise Refusal("malformed_request")
    if scheme.lower() not in {"http", "https", "ws", "wss"}:
        raise Refusal("malformed_request")
    segments, exceptions = read_path(target)
    address = ip_address(client)
    if isinstance(address, IPv6Address) and int(address) >> 32 == 0xFFFF:
        address = ip_address(int(address) & 0xFFFFFFFF)
    return Read(method, read_host(host), segments, address, exceptions)


def read_path(target: bytes):
    """Segments and ambiguous sequences."""
    if len(target) > 8192:
        raise Refusal("malformed_request")
    if not target or target[0] != ord("/") or any(byte in NEVER_IN_A_TARGET for byte in target):
        raise Refusal("ambiguous_request")
    path = target.split(b"?")[0]
    if path == b"/":
        return [], set()
    exceptions: set = set()
    if b"//" in path:
        exceptions.add("//")
    return [read_segment(raw, exceptions) for raw in path.split(b"/")[1:]], exceptions


def read_segment(raw: bytes, exceptions: set) -> str:
    """One segment, byte by byte."""
    out = bytearray()
    index = 0
    while index < len(raw):
        if raw[index] != ord("%"):
            if raw[index] == ord(";"):
                exceptions.add(";")
            out.append(raw[index])
            index += 1
            continue
        digits = raw[index + 1 : index + 3].decode("latin-1")
        if len(digits) != 2 or any(digit not in HEX for digit in digits):
            raise Refusal("ambiguous_request")
        if digits.lower() in STAY_ENCODED:
            exceptions.add("%" + digits.lower())
            out += b"%" + digits.lower().encode()
        else:
            out.append(int(digits, 16))
        index += 3
    try:
        text = out.decode()
    except UnicodeDecodeError:
        raise Refusal("ambiguous_request") from None
    look_inside(text)
    return text


def look_inside(text: str) -> None:
    """Refuse what shows when the segment is decoded again, up to three times; what still changes then is refused too."""
    for _ in range(4):
        if any(unicodedata.category(letter) == "Cc" for letter in text):
            raise Refusal("ambiguous_request")
        pieces = unicodedata.normalize("NFKC", text)
        for separator in "/\\;?#":
            pieces = pieces.replace(separator, "\n")
        if any(piece.strip() in {".", ".."} for piece in pieces.split("\n")):
            raise Refusal("ambiguous_request")
        again = decode_again(text)
        if again == text:
            return
        text = again
    raise Refusal("ambiguous_request")


def decode_again(text: str) -> str:
    """Every escape of the text decoded, bytes that are no UTF-8 replaced."""
    out = bytearray()
    raw = text.encode()
    index = 0
    while index < len(raw):
        digits = raw[index + 1 : index + 3].decode("latin-1")
        if raw[index] == ord("%") and len(digits) == 2 and all(digit in HEX for digit in digits):
            out.append(int(digits, 16))
            index += 3
        else:
            out.append(raw[index])
            index += 1
    return out.decode(errors="replace")


def read_host(host: str) -> str:
    """A host name in lower case without port, or an IPv6 address in brackets."""
    if len(host) > 300:
        raise Refusal("malformed_request")
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        if "]" not in host or "%" in name or (port and not is_port(port)):
            raise Refusal("malformed_request")
        try:
            return f"[{IPv6Address(name)}]"
        except ValueError:
            raise Refusal("malformed_request") from None
    name, colon, port = host.partition(":")
    if colon and not is_port(colon + port):
        raise Refusal("malformed_request")
    name = name.removesuffix(".").lower()
    if not name.isascii():
        name = ".".join(read_u_label(label) for label in name.split("."))
    if len(name) > 253 or not all(is_label(label) for label in name.split(".")):
        raise Refusal("malformed_request")
    return name


def is_port(text: str) -> bool:
    """`:443`."""
    return text[0] == ":" and 1 <= len(text[1:]) <= 5 and all(c in "0123456789" for c in text[1:]) and int(text[1:]) < 65536


def is_label(label: str) -> bool:
    """Letters, digits, underscore; dashes inside."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
    return 1 <= len(label) <= 63 and label[0] in letters and label[-1] in letters and all(c in letters + "-" for c in label)


def read_u_label(label: str) -> str:
    """An internationalised label as `xn--…`, if it is in its normal form."""
    if label.isascii():
        return label
    if unicodedata.normalize("NFKC", label.casefold()) != label:
        raise Refusal("ambiguous_request")
    return "xn--" + label.encode("punycode").decode()
