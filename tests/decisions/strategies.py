"""Policies, requests and principals for property tests: small alphabets, so that rules match, overlap and just miss.

`documents()` are valid; `questions()` are what a proxy could ask, tame and hostile; `principals()` are what credentials could
prove. A question is `(method, scheme, host, target as bytes, client as text)`.
"""

from hypothesis import strategies as st

from sidecar.policy.model import ANONYMOUS, Kind, Principal

HOSTS = ("orders.example.com", "billing.example.com", "example.org")
SERVED = frozenset({*HOSTS, "*.example.net"})
RULE_HOSTS = (*HOSTS, "*.example.com", "*.example.net", "eu.example.net")
REQUEST_HOSTS = (*HOSTS, "eu.example.net", "us.example.net", "a.b.example.net")
METHODS = ("GET", "HEAD", "POST", "DELETE")
LITERALS = ("a", "b", "acme", "ä")
NAMES = ("read", "write", "admin")
ORGS = ("acme", "a", "globex")
AMR = ("pwd", "pin", "otp", "sms", "fpt", "mfa", "user")
ACR = ("urn:x:silver", "urn:x:gold")
OPENABLE = ("%2f", "%5c", "%25", "%3b", "%3f", "%23", ";", "//")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York")
CLOCKS = ("00:00", "06:30", "08:00", "12:00", "18:00", "23:59")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "0.0.0.0/0")
CLIENTS = ("10.0.0.1", "10.1.2.3", "192.0.2.7", "192.0.2.8", "2001:db8::1", "::1", "::ffff:10.1.0.1")
LABELS = ("plan", "frozen", "org")
VALUES = ("pro", "acme", True, False, 3)
ATTRIBUTES = ("org.id", "org.slug", "profile.id", "profile.email", "session.id", "labels.org")

BEGIN = 1_774_742_400  # 2026-03-29T00:00:00Z, a Sunday on which Berlin changes its clocks
TIMES = st.floats(BEGIN - 2 * 86400, BEGIN + 3 * 86400) | st.integers(-48, 72).map(lambda hours: float(BEGIN + hours * 3600))


def some(values, least=1, most=3):
    """A list of different values."""
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True)


def optional(**strategies):
    """A mapping with some of these keys."""
    return st.fixed_dictionaries({}, optional=strategies)


def names():
    """What an entitlements, roles, groups or scopes condition asks."""
    return optional(all=some(NAMES), any=some(NAMES)).filter(bool)


def label_values():
    """Labels that a condition names."""
    return st.dictionaries(st.sampled_from(LABELS), st.sampled_from(VALUES), min_size=1, max_size=2)


@st.composite
def label_conditions(draw):
    """Required and forbidden labels that do not contradict each other."""
    wanted = draw(optional(require=label_values(), forbid=label_values()).filter(bool))
    require = wanted.get("require", {})
    forbid = {name: value for name, value in wanted.get("forbid", {}).items() if require.get(name) != value}
    return {key: value for key, value in {"require": require, "forbid": forbid}.items() if value} or {"forbid": {"frozen": True}}


def windows():
    """Times of the day."""
    return optional(
        after=st.sampled_from(CLOCKS[:-1]), before=st.sampled_from(CLOCKS[1:]), tz=st.sampled_from(ZONES), days=some(DAYS, most=6)
    ).filter(lambda time: time.keys() & {"after", "before", "days"} and time.get("after", "00:00") != time.get("before"))


def whens():
    """Conditions without `anonymous` and `bind`."""
    conditions = {
        **dict.fromkeys(("entitlements", "roles", "groups", "scopes"), names()),
        "labels": label_conditions(),
        "mfa": st.just(True),
        "acr": some(ACR),
        "max_auth_age": st.sampled_from(("30s", "15m", "1h", "2d", 900)),
        "source": some(NETWORKS),
        "time": windows(),
    }

    def pick(keys):
        return st.fixed_dictionaries({key: conditions[key] for key in keys})

    return some(tuple(conditions), least=0, most=3).flatmap(pick)


@st.composite
def paths(draw, opened):
    """A path pattern. `opened`: sequences that may stand in it."""
    pieces = [*LITERALS, "*", "{org}", "{x}"] + [f"a{sequence}b" for sequence in opened if sequence != "//"]
    parts = draw(st.lists(st.sampled_from(pieces), max_size=4))
    parts = [part for index, part in enumerate(parts) if not part.startswith("{") or part not in parts[:index]]
    if "//" in opened and parts and draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts) - 1)), "")
    end = draw(st.sampled_from(("", "", "/", "/**")))
    return "/" + "/".join(parts) + (end if parts else end.removeprefix("/") if end != "/" else "")


@st.composite
def rules(draw, number, effects=("allow", "allow", "allow", "deny")):
    """A rule with the id `r<number>`."""
    effect = draw(st.sampled_from(effects))
    rule = {"id": f"r{number}", "effect": effect}
    if effect == "allow":
        rule |= draw(
            optional(
                allow_ambiguous=some(OPENABLE, most=8),
                headers=st.sampled_from(({"x-tier": "gold"}, {"X-Tier": "silver", "x-zone": "eu 1"})),
                obligations=st.just({"mask": ["email"], "limit": 10}),
            )
        )
    opened = rule.get("allow_ambiguous", OPENABLE if effect == "deny" else ())
    rule["paths"] = draw(st.lists(paths(opened), min_size=1, max_size=3, unique_by=shape))
    rule |= draw(optional(methods=some(METHODS), hosts=some(RULE_HOSTS), reason=st.sampled_from(("because", "policy_denied"))))
    when = draw(conditions_for(rule))
    return rule | ({"when": when} if when or draw(st.booleans()) else {})


@st.composite
def conditions_for(draw, rule):
    """A `when` that fits the rule's effect and paths."""
    when = draw(whens())
    bindable = set.intersection(*({part[1:-1] for part in path.split("/") if part.startswith("{")} for path in rule["paths"]))
    if bindable and draw(st.booleans()):
        when["bind"] = {name: draw(st.sampled_from(ATTRIBUTES)) for name in sorted(bindable)}
    anonymous = draw(st.sampled_from((None, False, True)))
    if anonymous:
        when = {key: value for key, value in when.items() if key in {"source", "time"}}
    return when if anonymous is None else {**when, "anonymous": anonymous}


def shape(path):
    """What a pattern matches, whatever its placeholders are called."""
    return tuple("*" if part.startswith("{") else part for part in path.split("/"))


@st.composite
def documents(draw, most=7):
    """A valid document (its rules may be unreachable)."""
    return {"version": 1, "rules": [draw(rules(number)) for number in range(draw(st.integers(1, most)))]}


TAME = (*LITERALS[:3], "%C3%A4", "ä", "%61", "c", "A", "orders.json")
AMBIGUOUS = ("a%2fb", "a%2Fb", "a%5cb", "a%25b", "a%3bb", "a%3Fb", "a%23b", "a;b", "")
HOSTILE = (".", "..", "%2e", "%2E%2e", ".%2e", "..;x", "a%2f..", "%252e%252e", "%00", "a%2500", "%zz", "%", "\\", "%c0%af", "%ff")
HOSTILE += ("%0a", "%7f", "%c2%85", "\uff0e\uff0e", "#x", "%2525252525", "a b", "\x01", "..%20")


@st.composite
def targets(draw, document=None):
    """Path and query as bytes: near the document's paths where there is one, some of them ambiguous, some hostile."""
    parts = draw(st.lists(st.sampled_from(TAME), max_size=4))
    if document is not None and draw(st.booleans()):
        pattern = draw(st.sampled_from([path for rule in document["rules"] for path in rule["paths"]]))
        parts = [
            draw(st.sampled_from(TAME)) if part in {"*", "**"} or part[:1] == "{" else part for part in pattern.split("/")[1:]
        ]
    kind = draw(st.integers(0, 9))
    if kind < 3:
        unusual = draw(st.sampled_from(HOSTILE if kind == 0 else AMBIGUOUS))
        parts.insert(draw(st.integers(0, len(parts))), unusual)
    query = draw(st.sampled_from(("", "", "?x=1", "?next=/../a", "?", "?a?b;c")))
    return ("/" + "/".join(parts) + query).encode()


@st.composite
def questions(draw, document=None):
    """What a proxy asks."""
    method = draw(st.sampled_from((*METHODS, *METHODS, "PURGE", "get", "GET ")))
    scheme = draw(st.sampled_from(("https", "https", "http", "HTTPS", "wss", "ftp")))
    host = draw(st.sampled_from(REQUEST_HOSTS))
    shown = draw(
        st.sampled_from((host, host, host.upper(), host + ":8443", host + ".", "[::1]:80", "bücher.example.net", "x_y", "a..b"))
    )
    return method, scheme, shown, draw(targets(document)), draw(st.sampled_from(CLIENTS))


def rich(now):
    """A session with everything that names can give, logged in just now with a second factor."""
    every = frozenset(NAMES)
    return st.builds(
        Principal,
        kind=st.just(Kind.SESSION),
        sub=st.sampled_from(("a", "b")),
        email=st.just("a"),
        org_id=st.just("a"),
        org_slug=st.sampled_from(ORGS[:2]),
        session_id=st.just("a"),
        groups=st.just(every),
        roles=st.just(every),
        entitlements=st.just(every),
        scopes=st.just(every),
        labels=st.fixed_dictionaries({"plan": st.sampled_from(VALUES), "org": st.just("acme")}),
        amr=st.sampled_from((frozenset({"pwd", "otp"}), frozenset({"pwd"}))),
        acr=st.sampled_from(("", *ACR)),
        auth_time=st.sampled_from((0, 10, 901)).map(lambda age: int(now) - age if age else 0),
    )


@st.composite
def situations(draw):
    """A document, a question near it, who asks, and when. Half aim at a rule: its method, its host, a rich principal."""
    document, now = draw(documents()), draw(TIMES)
    method, scheme, host, target, client = draw(questions(document))
    if draw(st.booleans()):
        rule = draw(st.sampled_from(document["rules"]))
        method = draw(st.sampled_from(rule.get("methods", METHODS)))
        host = draw(st.sampled_from(rule.get("hosts", HOSTS))).replace("*", "eu")
        return document, (method, "https", host, draw(targets({"rules": [rule]})), client), draw(rich(now)), now
    return document, (method, scheme, host, target, client), draw(principals(now)), now


@st.composite
def principals(draw, now):
    """Nobody, a session or an API key; logins some time before `now`."""
    kind = draw(st.sampled_from((Kind.ANONYMOUS, Kind.SESSION, Kind.SESSION, Kind.SESSION, Kind.API_KEY)))
    if kind is Kind.ANONYMOUS:
        return ANONYMOUS
    held = {name: frozenset(draw(some(NAMES, least=0))) for name in ("entitlements", "roles", "groups", "scopes")}
    login = {}
    if kind is Kind.SESSION:
        ages = st.sampled_from((0, 29, 30, 31, 900, 901, 3600, 200_000))
        login = {
            "session_id": draw(st.sampled_from(("", "a", "s1"))),
            "amr": frozenset(draw(some(AMR, least=0))),
            "acr": draw(st.sampled_from(("", *ACR))),
            "auth_time": draw(st.just(0) | ages.map(lambda age: int(now) - age)),
        }
    return Principal(
        kind=kind,
        sub=draw(st.sampled_from(("a", "b", "p1"))),
        email=draw(st.sampled_from(("", "a", "a@example.com"))),
        org_id=draw(st.sampled_from(("a", "o1"))),
        org_slug=draw(st.sampled_from(ORGS)),
        labels=draw(st.dictionaries(st.sampled_from(LABELS), st.sampled_from((*VALUES, "true", "3", "")), max_size=3)),
        **held,
        **login,
    )
