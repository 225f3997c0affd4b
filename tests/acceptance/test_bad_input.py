"""What an operator gets wrong: every program says what it is and what to do, ends with code 2, and shows no secret."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg
import pytest

from control_plane.cli.processes import free_port
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.unusable import check_url
from sidecar.settings import Settings, SettingsInvalid
from tests.acceptance.plane import SECRET_KEY, Api, bootstrapped
from tests.acceptance.processes import Program, control_plane, environment, sidecar
from tests.acceptance.test_end_to_end import POLICY, changed, check
from tests.integration.test_database_pooler import PGBOUNCER, bouncer

CANARY = "canary-4713"
ROOT = Path(__file__).parents[2]
CATALYST = ("-m", "control_plane")
SIDECAR = ("-m", "sidecar")
SLOW_DRAIN = 20


@dataclass(frozen=True)
class Told:
    """What a program that could not do its work said."""

    code: int
    text: str

    def says(self, *words: str) -> None:
        """It ended with 2, without a traceback and without a secret, and each of these words is there."""
        assert self.code == 2, self.text
        assert "Traceback" not in self.text, self.text
        assert CANARY not in self.text
        for word in words:
            assert word in self.text, f"{word!r} is missing in: {self.text}"


@dataclass(frozen=True)
class Case:
    """A command line, its settings, and words that its message must have."""

    arguments: tuple[str, ...]
    words: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


def run(*arguments: str, python: tuple[str, ...] = (), **settings: str) -> Told:
    """Run a program that is expected to end by itself; one that goes on is killed, and fails the test by its code."""
    command = [sys.executable, *python, *arguments]
    process = subprocess.Popen(
        command,
        env=environment(PYTHONPATH=str(ROOT), **settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        text, _ = process.communicate(timeout=40)
    finally:
        process.kill()
    return Told(process.returncode, text)


def all_say(cases: list[Case]) -> None:
    """Several at once: most of the time of a start is Python's own."""
    with ThreadPoolExecutor(3) as threads:
        for case, told in zip(cases, threads.map(lambda case: run(*case.arguments, **case.settings), cases), strict=True):
            assert told.code == 2, (case, told)
            told.says(*case.words)


def listeners() -> dict[str, str]:
    names = ("CONTROL_LISTEN", "CONTROL_OPS_LISTEN", "SIDECAR_LISTEN", "SIDECAR_OPS_LISTEN")
    return {f"CATALYST_{name}": f"127.0.0.1:{free_port()}" for name in names}


def settings(database_url: str, **more: str) -> dict[str, str]:
    return {**listeners(), "CATALYST_DATABASE_URL": database_url, "CATALYST_SECRET_KEY": SECRET_KEY, **more}


def with_password(url: str) -> str:
    return url.replace("@", f":{CANARY}@", 1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Under /tmp, where the user that the embedded server runs as can go; nothing that was started in it stays."""
    path = Path(tempfile.mkdtemp(prefix="catalyst-bad-"))
    path.chmod(0o755)
    yield path
    assert left_in(path) == []
    shutil.rmtree(path)


def left_in(path: Path) -> list[list[str]]:
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if any(argument.startswith(str(path)) for argument in command)]


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "{}:{}".format(*listener.getsockname())


# --- settings ---------------------------------------------------------------------------------------------------------------------


def test_every_wrong_setting_is_told_at_once(folder: Path) -> None:
    wrong = {
        "CATALYST_DATABASE_URL": f"mysql://me:{CANARY}@db/x",
        "CATALYST_SECRET_KEY": CANARY,
        "CATALYST_LOG_LEVEL": "loud",
        "CATALYST_ISSUER": "nowhere",
    }
    control = {"CATALYST_CONTROL_LISTEN": "x", "CATALYST_SESSION_SECONDS": "1"}
    gate = {
        "CATALYST_SIDECAR_LISTEN": "0.0.0.0:1",
        "CATALYST_SIDECAR_WORKERS": "0",
        "CATALYST_SIDECAR_MAX_STALENESS": "soon",
        "CATALYST_SIDECAR_TLS_KEY": "/nowhere",
    }
    shared = tuple(set(wrong) - {"CATALYST_SECRET_KEY"})
    advice = ("write postgresql://user:password@host:port/database", "openssl rand -base64 32", "write one of debug")
    all_say(
        [
            Case((*CATALYST, "control-plane"), (*wrong, *control, *advice), wrong | control),
            Case((*CATALYST, "bootstrap"), (*wrong, *control, *advice), wrong | control),
            Case((*CATALYST, "token", "--profile", "a", "--org", "b"), (*wrong, *control), wrong | control),
            Case((*CATALYST, "migrate"), (advice[0],), wrong),
            Case(SIDECAR, (*shared, *gate, "TRUSTED_PROXIES"), wrong | gate),
            Case(
                (*CATALYST, "up", "--data", str(folder)),
                ("CATALYST_SIDECAR_LISTEN", "CATALYST_CONTROL_OPS_LISTEN", "write host:port"),
                {**listeners(), "CATALYST_SIDECAR_LISTEN": "nowhere", "CATALYST_CONTROL_OPS_LISTEN": "x:y"},
            ),
        ]
    )


def test_up_tells_what_is_wrong_with_either_program(folder: Path, database: Any) -> None:
    """Each reads its own settings; both are reported, and nothing of an earlier run's log."""
    data = folder / "data"
    (data / "logs").mkdir(parents=True)
    (data / "logs" / "control-plane.log").write_text("of another day\n")
    environ = {"CATALYST_DATABASE_URL": with_password(database.admin_url), "CATALYST_SECRET_KEY": CANARY}
    told = run(*CATALYST, "up", "--free-ports", "--data", str(data), **environ, CATALYST_SIDECAR_WORKERS="many")
    told.says("CATALYST_SECRET_KEY", "CATALYST_SIDECAR_WORKERS", str(data / "logs"))
    assert "of another day" not in told.text


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{CANARY}@db/x",
        f"postgresql://me:{CANARY}/x@db/x",
        f"postgresql://me:1/{CANARY}@db/x",
        f"postgresql://me:1#{CANARY}@db/x",
        f"postgresql://me:1?{CANARY}@db/x",
        f"postgresql://me:{CANARY}@db:port/x",
        f"postgresql://me:{CANARY}@[::1/x",
        f"postgresql://me:{CANARY}@db/x?sslmode",
        f"postgresql://me:{CANARY}@db/x?sslmode=require&sslrootcert=/nowhere",
        CANARY,
    ],
)
def test_a_url_that_drivers_misread_is_refused_unseen(url: str) -> None:
    with pytest.raises(ValueError, match=r"write postgresql://|no such file") as refused:
        check_url(url)
    with pytest.raises(SettingsInvalid, match=r"write postgresql://|no such file") as invalid:
        Settings.from_environ({"CATALYST_DATABASE_URL": url})
    assert CANARY not in str(refused.value) + str(invalid.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@/x?host=%2Frun%2Fpostgresql",
        "postgres://me:p%40ss@db.example.com:5432/x?sslmode=require",
        "postgresql://me:pw@[::1]:5432/x",
        "postgresql://me@a:5432,b:5432/x?target_session_attrs=read-write",
        "postgresql:///x",
    ],
)
def test_a_url_that_drivers_read_is_taken(url: str) -> None:
    assert check_url(url) == url
    assert Settings.from_environ({"CATALYST_DATABASE_URL": url}).database_url == url


# --- listeners --------------------------------------------------------------------------------------------------------------------


def test_an_address_that_is_taken(folder: Path, taken: str, database: Any) -> None:
    url = with_password(database.url("catalyst_control"))
    in_use = f"{taken}: Address already in use"
    control, gate = (*CATALYST, "control-plane"), SIDECAR
    up = (*CATALYST, "up", "--data", str(folder))
    both = {"CATALYST_CONTROL_LISTEN": taken, "CATALYST_SIDECAR_OPS_LISTEN": taken}
    precious = folder / "precious"
    precious.write_text("not a socket")
    all_say(
        [
            Case(up, (f"{taken} is taken", *both, "--free-ports"), {**listeners(), **both}),
            *(
                Case(program, (in_use, f"Set {name} to an address"), settings(url, **{name: taken}))
                for program, name in (
                    (control, "CATALYST_CONTROL_LISTEN"),
                    (control, "CATALYST_CONTROL_OPS_LISTEN"),
                    (gate, "CATALYST_SIDECAR_LISTEN"),
                    (gate, "CATALYST_SIDECAR_OPS_LISTEN"),
                )
            ),
            Case(gate, ("/nowhere/s", "folder"), settings(url, CATALYST_SIDECAR_LISTEN="unix:/nowhere/s")),
            Case(gate, (str(precious),), settings(url, CATALYST_SIDECAR_LISTEN=f"unix:{precious}")),
        ]
    )
    assert precious.read_text() == "not a socket"


def test_a_socket_that_a_killed_sidecar_left_is_taken_over(folder: Path, tmp_path: Path, database: Any) -> None:
    left = folder / "check.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    names = {"CATALYST_SIDECAR_LISTEN": f"unix:{left}", "CATALYST_SIDECAR_OPS_LISTEN": f"127.0.0.1:{free_port()}"}
    environ = environment(CATALYST_DATABASE_URL=database.url("catalyst_sidecar"), **names)
    with (tmp_path / "log").open("wb") as log:
        gate = subprocess.Popen([sys.executable, *SIDECAR], env=environ, stdout=log, stderr=log)
    try:
        await_true(lambda: ready(names["CATALYST_SIDECAR_OPS_LISTEN"]))
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(left))
    finally:
        gate.terminate()
        assert gate.wait(SLOW_DRAIN) == 0


def test_tls_files_that_cannot_be_used(folder: Path) -> None:
    openssl = lambda *arguments: subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)  # noqa: E731
    for name in "ab":
        openssl(*f"req -x509 -newkey ed25519 -nodes -keyout {name}.key -out {name}.pem -subj /CN=x -days 2".split())
    openssl(*f"pkey -in a.key -out locked.key -aes256 -passout pass:{CANARY}".split())
    (folder / "text.pem").write_text(CANARY)

    def case(certificate: str, key: str, authority: str, *words: str) -> Case:
        files = {"CERT": certificate, "KEY": key, **({"CLIENT_CA": authority} if authority else {})}
        variables = {f"CATALYST_SIDECAR_TLS_{name}": str(folder / file) for name, file in files.items()}
        return Case(SIDECAR, words, settings(f"postgresql://me@127.0.0.1:{free_port()}/x", **variables))

    all_say(
        [
            case("text.pem", "a.key", "", "TLS_CERT", "TLS_KEY", "PEM"),
            case("a.pem", "b.key", "", "TLS_KEY", "key values mismatch"),
            case("a.pem", "locked.key", "", "encrypted", "without a passphrase"),
            case("a.pem", "a.key", "text.pem", "TLS_CLIENT_CA", "text.pem"),
            case("nowhere.pem", "", "", "TLS_CERT: there is no file", "TLS_KEY: there is no file"),
        ]
    )


# --- the database -----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def older_looking(socket_path: Path) -> Iterator[str]:
    """The address of a relay to a server that says it is PostgreSQL 13: no server that old can be installed here."""

    def pump(source: socket.socket, sink: socket.socket, *, claims: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(re.sub(rb"(server_version\0)\d\d", rb"\g<1>13", data) if claims else data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(socket_path))
                pairs = ((client, server, False), (server, client, True))
                threads = [threading.Thread(target=pump, args=p[:2], kwargs={"claims": p[2]}, daemon=True) for p in pairs]
                for thread in threads:
                    thread.start()
                ends.extend((client, server))

    ends: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield "{}:{}".format(*listener.getsockname())
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    for end in ends:
        end.close()


@pytest.fixture
def locked(postgres: Any) -> Iterator[None]:
    """Two roles: "locked" has a password, "stranger" is in none of our roles."""
    rules = postgres.data_dir / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all locked scram-sha-256\n{before}")
    with psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as admin:
        admin.execute("CREATE ROLE locked LOGIN PASSWORD 'another'")
        admin.execute("CREATE ROLE stranger LOGIN")
        admin.execute("SELECT pg_reload_conf()")
        yield
        rules.write_text(before)
        for role in ("locked", "stranger"):
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")
        admin.execute("SELECT pg_reload_conf()")


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


# The sidecar waits for a database that does not answer, and control planes run beside a newer schema.
EVERY = {"control-plane", "migrate", "sidecar"}


def on(url: str, words: tuple[str, ...], programs: set[str]) -> list[Case]:
    """The programs that go to the database, each with this URL."""
    commands = {name: (*CATALYST, name) for name in ("control-plane", "migrate", "bootstrap")} | {
        "token": (*CATALYST, "token", "--profile", "a@example.com", "--org", "acme"),
        "sidecar": SIDECAR,
    }
    return [Case(commands[name], words, settings(with_password(url))) for name in sorted(programs)]


def test_a_database_that_cannot_be_used(database: Any, locked: None) -> None:
    gone = f"127.0.0.1:{free_port()}"
    socket_path = database.server.data_dir / ".s.PGSQL.5432"
    reach = (gone, "cannot be reached", "Connect", "CATALYST_DATABASE_URL")
    with older_looking(socket_path) as old:
        all_say(
            [
                *on(f"postgresql://me@{gone}/x", reach, {"control-plane", "migrate", "bootstrap", "token"}),
                *on(f"postgresql://postgres@{old}/{database.name}", ("PostgreSQL 13 is too old", "15 or later"), EVERY),
                *on(database.url("locked"), ("password", "CATALYST_DATABASE_URL"), EVERY),
                *on(database.url("nobody"), ('"nobody" does not exist', "CATALYST_DATABASE_URL"), {"migrate", "sidecar"}),
                *on(database.url("stranger"), ("GRANT", "CATALYST_DATABASE_URL"), EVERY),
                *on(database.server.url("postgres", "nowhere"), ("catalyst migrate", "CATALYST_DATABASE_URL"), EVERY),
            ]
        )


def test_a_database_of_another_version_or_none(database: Any, empty_database: Any, folder: Path) -> None:
    migrates = ("catalyst migrate",)
    cases = on(empty_database.admin_url, migrates, {"control-plane", "sidecar", "bootstrap", "token"})
    all_say(cases)
    execute(database.admin_url, "UPDATE catalyst.alembic_version SET version_num = '0001'")
    all_say(on(database.admin_url, migrates, {"control-plane", "bootstrap"}))
    execute(database.admin_url, "UPDATE catalyst.alembic_version SET version_num = '9999'")
    newer = ("9999", "newer version", "Install that version")
    up = Case((*CATALYST, "up", "--free-ports", "--data", str(folder)), newer, settings(with_password(database.admin_url)))
    all_say([*on(database.admin_url, newer, {"migrate"}), up])
    with psycopg.connect(database.url("catalyst_migrate")) as connection:
        view = "SELECT replace(pg_get_viewdef('replica.head'), '1 AS format', '99 AS format')"
        ((definition,),) = connection.execute(view).fetchall()
        connection.execute(f"CREATE OR REPLACE VIEW replica.head AS {definition}")
    all_say(on(database.admin_url, ("format 99", "upgrade the sidecar"), {"sidecar"}))


def test_a_standby(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres", {"fsync": "off"})
    with server:
        migrate(server.url("catalyst_migrate"))
    (server.data_dir / "standby.signal").touch()
    with server:
        all_say(on(server.url("postgres"), ("primary", "CATALYST_DATABASE_URL"), {*EVERY, "bootstrap"}))


def test_a_pooler_in_transaction_mode(database: Any, folder: Path) -> None:
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    with bouncer(database, "transaction") as url:
        up = Case((*CATALYST, "up", "--free-ports", "--data", str(folder)), ("session mode",), settings(with_password(url)))
        all_say([*on(url, ("session mode",), {*EVERY, "bootstrap"}), up])


def test_a_sidecar_waits_for_a_database_and_says_what_for(tmp_path: Path) -> None:
    gone = f"127.0.0.1:{free_port()}"
    ops = f"127.0.0.1:{free_port()}"
    names = {"CATALYST_SIDECAR_LISTEN": "127.0.0.1:0", "CATALYST_SIDECAR_OPS_LISTEN": ops}
    environ = environment(CATALYST_DATABASE_URL=f"postgresql://me:{CANARY}@{gone}/x", **names)
    output = tmp_path / "log"
    with output.open("wb") as log:
        gate = subprocess.Popen([sys.executable, *SIDECAR], env=environ, stdout=log, stderr=log)
    program = Program(gate, output, "", "")
    try:
        await_true(lambda: "database out of reach" in output.read_text())
        answer = httpx2.get(f"http://{ops}/readyz", trust_env=False)
    finally:
        gate.terminate()
        assert gate.wait(SLOW_DRAIN) == 0
    assert (answer.status_code, answer.json()["reason"]) == (503, "not_ready")
    told = next(line for line in program.lines() if line["message"] == "database out of reach")
    assert (told["level"], told["reason"]) == ("warning", "Connection refused")
    assert "CATALYST_DATABASE_URL" in told["advice"]
    assert CANARY not in output.read_text()


# --- administrators, tokens, policies ---------------------------------------------------------------------------------------------


@pytest.fixture
def scene(database: Any, tmp_path: Path) -> Iterator[tuple[Program, Program, Api]]:
    """A control plane and a sidecar on one database, and its first administrator."""
    administrator = bootstrapped(database.url("catalyst_control"))
    with (
        control_plane(database.url("catalyst_control"), tmp_path / "control.log") as plane,
        sidecar(database.url("catalyst_sidecar"), tmp_path / "sidecar.log") as gate,
    ):
        admin = Api(plane.url, administrator.api_key)
        yield plane, gate, admin
        admin.close()


WRONG = """\
version: 1
rules:
  - id: read-orders
    effect: maybe
    paths: ["/orders/**"]
  - id: read-orders
    effect: allow
    path: ["/x"]
    paths: ["/y"]
"""
PLACES = {(4, 13): "allow", (6, 9): "another id", (8, 5): "paths"}


def test_a_policy_with_three_mistakes_changes_nothing(scene: tuple[Program, Program, Api], tmp_path: Path) -> None:
    plane, gate, admin = scene
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    ann = admin.post("/v1/profiles", {"kind": "user", "email": "ann@example.com", "display_name": "Ann"})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    subject = {"kind": "profile", "id": ann}
    admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "orders:read"})
    admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})
    admin.put_policy("orders", POLICY)
    _, revision = changed(admin, "POST", "/v1/applications/orders/policy/publish", {})
    token = admin.post("/v1/sessions", {"profile": ann, "org": "acme"})["token"]
    assert check(gate, token, revision).status_code == 200
    draft, head = admin.client.get("/v1/applications/orders/policy/draft").text, admin.revision()

    refused = admin.put_policy("orders", WRONG, 422)["errors"]
    assert {(problem["line"], problem["column"]) for problem in refused} == set(PLACES)
    assert admin.client.get("/v1/applications/orders/policy/draft").text == draft
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    who = {"CATALYST_URL": plane.url, "CATALYST_API_KEY": admin.credential or ""}
    for command in ("validate", "test", "publish"):
        told = run(*CATALYST, "policy", command, "orders", str(file), **who)
        assert told.code == 1, told
        for (line, column), words in PLACES.items():
            (found,) = [text for text in told.text.splitlines() if text.startswith(f"{file}:{line}:{column}: ")]
            assert words in found
    # A rule that breaks one of the document's own tests is stored as a draft and cannot be published.
    failing = POLICY + "tests:\n  - {as: {groups: [x]}, request: 'GET https://orders.example.com/orders/1', expect: allow}\n"
    file.write_text(failing)
    told = run(*CATALYST, "policy", "publish", "orders", str(file), **who)
    assert (told.code, f"{file}:9:5: " in told.text, "expected allow" in told.text) == (1, True, True), told
    assert admin.client.get("/v1/applications/orders/policy/draft").text == failing
    assert [version["published"] for version in admin.get("/v1/applications/orders/policy/versions")["items"]] == [True]
    # Whatever these commits were, the sidecar has them, and decides by the same policy.
    _, latest = changed(admin, "POST", "/v1/orgs", {"slug": "later", "name": "Later"})
    assert latest > head
    assert check(gate, token, latest).status_code == 200
    assert check(gate, "nonsense", latest).status_code == 401
    assert (plane.stop(), gate.stop()) == (0, 0)


class _Stranger(BaseHTTPRequestHandler):
    """A web server that is none of ours."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_commands_that_ask_a_program_that_is_not_there(stranger: str, folder: Path) -> None:
    file = folder / "policy.yaml"
    file.write_text(POLICY)
    gone = f"127.0.0.1:{free_port()}"
    validate = (*CATALYST, "policy", "validate", "orders", str(file))
    explain = (*CATALYST, "policy", "explain", "GET", "https://orders.example.com/")
    key = {"CATALYST_API_KEY": f"cak_{CANARY}"}
    ops = "CATALYST_SIDECAR_OPS_LISTEN"
    all_say(
        [
            Case(validate, ("CATALYST_API_KEY is not set", "catalyst bootstrap")),
            Case(validate, (f"http://{gone}", "CATALYST_URL"), key | {"CATALYST_URL": f"http://{gone}"}),
            Case(validate, ("no control plane", "CATALYST_URL"), key | {"CATALYST_URL": f"http://{stranger}"}),
            Case(
                validate,
                ("CATALYST_URL cannot be read", "CATALYST_API_KEY holds"),
                {"CATALYST_URL": f"http://me:{CANARY}@{gone}", "CATALYST_API_KEY": f"cak_{CANARY}\n\u00fc"},
            ),
            Case((*validate[:-1], str(folder / "none.yaml")), ("none.yaml cannot be read",), key),
            Case(explain, (gone, ops), {ops: gone}),
            Case(explain, ("no sidecar", ops), {ops: stranger}),
            Case(explain, ("unix:/nowhere/s", ops), {ops: "unix:/nowhere/s"}),
            Case(
                (*CATALYST, "proxy-config", "nginx", "--listen", "x", "--application", "y:"),
                ("--listen: 'x'", "--application: 'y:'", "CATALYST_SIDECAR_LISTEN", "write host:port"),
                {"CATALYST_SIDECAR_LISTEN": "nowhere"},
            ),
            Case((*CATALYST, "proxy-config", "apache"), ("write one of traefik",)),
            Case((*CATALYST, "proxy-config", "nginx", "--script"), ("leave --script out",)),
            Case((*CATALYST, "proxy-config", "istio", "--sidecar", "unix:/run/x"), ("over TCP only",)),
            Case((*CATALYST, "proxy-config", "nginx", "--host", "A b", "--header", "X;"), ("'A b'", "'X;'")),
        ]
    )


def test_tokens_and_administrators(database: Any) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    member = str(administrator.profile)
    here = settings(with_password(database.url("catalyst_control")))
    token = lambda profile, org, *more: (*CATALYST, "token", "--profile", profile, "--org", org, *more)  # noqa: E731
    other = "A" * 43 + "="
    all_say(
        [
            Case((*CATALYST, "bootstrap"), ("administrator already", "catalyst token"), here),
            Case(token("nobody@example.com", "catalyst"), ("no such profile", "--profile takes"), here),
            Case(token(member, "nowhere"), ("no such org", "--org a slug or an id"), here),
            Case(token(member, "catalyst", "--amr", "p w", "--acr", "x y"), ("--amr takes", "--acr takes"), here),
            Case(
                token(member, "catalyst"),
                ("CATALYST_SECRET_KEY", "add the key that it was sealed with"),
                {**here, "CATALYST_SECRET_KEY": other},
            ),
            Case(
                (*CATALYST, "control-plane"),
                ("CATALYST_SECRET_KEY", "add the key that it was sealed with"),
                {**here, "CATALYST_SECRET_KEY": other},
            ),
        ]
    )


# --- `catalyst up` and the demo: folders, signals, what was left -------------------------------------------------------------------


def up_command(data: Path) -> list[str]:
    return [sys.executable, *CATALYST, "up", "--free-ports", "--json", "--data", str(data)]


@contextlib.contextmanager
def up(data: Path) -> Iterator["subprocess.Popen[str]"]:
    """`catalyst up`, stopped at the end."""
    with subprocess.Popen(
        up_command(data), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(40)


def test_folders_that_cannot_be_used(folder: Path) -> None:
    (folder / "file").write_text("")
    (folder / "others" / "postgres").mkdir(parents=True)
    (folder / "others" / "postgres" / "diary").write_text("")
    start = lambda *command: (*CATALYST, *command, "--data")  # noqa: E731
    all_say(
        [
            Case((*start("up", "--free-ports"), str(folder / "file")), ("cannot be used", "--data")),
            Case((*start("up", "--free-ports"), str(folder / "file" / "x")), ("cannot be used", "--data")),
            Case((*start("up", "--free-ports"), "/sys"), ("/sys cannot be used", "--data")),
            Case((*start("up", "--free-ports"), str(folder / "others")), ("no database", "--data")),
            Case((*start("demo", "--check"), str(folder / "file")), ("cannot be used", "--data")),
            Case((*start("demo", "--check"), str(folder / "others")), ("would empty", "--data")),
        ]
    )
    assert (folder / "others" / "postgres" / "diary").exists()


def test_up_broken_off_leaves_nothing_running_and_starts_again(folder: Path) -> None:
    """By a signal while it starts, at moments when there is no database yet, half of one, and all of it; and by kill -9."""
    data = folder / "data"
    moments = {
        signal.SIGINT: (data / "lock").exists,
        signal.SIGTERM: lambda: bool(list(data.glob("postgres.new-*/PG_VERSION"))),
        signal.SIGHUP: (data / "postgres" / "postmaster.pid").exists,
    }
    for number, moment in moments.items():
        process = subprocess.Popen(
            up_command(data), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        await_true(moment)
        process.send_signal(signal.SIGTERM if number is signal.SIGHUP else number)
        text, _ = process.communicate(timeout=40)
        assert (process.returncode, text) == (0, "")
        assert left_in(data) == []
    with up(data) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("{")
        owned = run(*CATALYST, "up", "--free-ports", "--data", str(data))
        owned.says(str(data), "in use", "--data")
        process.kill()
        process.wait(40)
    # The database outlives its starter and is killed too: its pid file and its socket stay.
    server = psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))
    family = [server, *server.children()]
    server.kill()
    psutil.wait_procs(family, timeout=20)
    assert (data / "postgres" / "postmaster.pid").exists()
    await_true(lambda: left_in(data) == [])
    with up(data) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("{")


# --- what is not installed --------------------------------------------------------------------------------------------------------


def test_the_command_line_without_its_extra() -> None:
    run(*CATALYST, "up", python=("-S",)).says("typer", "pip install 'catalyst-auth[control-plane]'")


@pytest.mark.parametrize(("version", "found"), [((3, 10), False), ((3, 11), True)])
def test_make_looks_for_a_python_that_is_new_enough(folder: Path, version: tuple[int, int], found: bool) -> None:
    """The only Python on PATH is one that says which version it is."""
    for tool in ("sh", "make", "touch"):
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is not installed"))
    python = folder / "python3"
    python.write_text(f"#!{sys.executable}\nimport sys\nsys.version_info = {version}\nexec(sys.argv[2])\n")
    python.chmod(0o755)
    target = f"{folder}/venv/.python"
    dry = ["-n"] if found else []
    done = subprocess.run(
        ["make", *dry, f"VENV={folder}/venv", target],
        env={"PATH": str(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if found else 2), done
    if found:
        assert f"with {python}" in done.stdout
    else:
        assert "No Python 3.11 or later" in done.stderr
        assert "make PYTHON=" in done.stderr


# --- small parts ------------------------------------------------------------------------------------------------------------------


def ready(address: str) -> bool:
    with contextlib.suppress(httpx2.HTTPError):
        return httpx2.get(f"http://{address}/readyz", timeout=1, trust_env=False).status_code == 200
    return False


def await_true(holds: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
