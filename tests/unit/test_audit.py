"""The fork-safety audit: each thing that a fork does not bear is found, named and placed, and the page has its kind."""

import ast
import asyncio
import atexit
import gc
import importlib
import logging
import logging.handlers
import os
import pathlib
import queue
import random
import re
import select
import socket
import sqlite3
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from qmaster import audit, findings, late, molding
from qmaster.findings import KINDS, Finding, Severity
from qslots.reports import Declared

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of an application, where what the test makes is kept."""
    shop = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", shop)
    return shop


@pytest.fixture
def look() -> Iterator[Callable[[], list[Finding]]]:
    """What an audit finds that was not there when the test began; the collector is put back afterwards."""
    was = gc.isenabled()
    gc.disable()
    known = {str(each) for each in audit.inspect(audit.before())}
    since = audit.before()
    yield lambda: [each for each in audit.inspect(since) if str(each) not in known]
    if was:
        gc.enable()


def kinds(found: list[Finding]) -> dict[str, str]:
    return {each.kind: each.where for each in found}


def test_nothing_is_found_where_nothing_was_done(look: Callable[[], list[Finding]]) -> None:
    assert look() == []


def test_a_thread_is_refused_by_name_and_place(look: Callable[[], list[Finding]]) -> None:
    leave = threading.Event()

    def pump() -> None:
        leave.wait()

    thread = threading.Thread(target=pump, name="pump")
    thread.start()
    try:
        found = look()
    finally:
        leave.set()
        thread.join()
    assert kinds(found) == {"thread": f"{__file__}:{pump.__code__.co_firstlineno}"}
    assert f"(pump ({found[0].where}))" in findings.refusal(found)


def test_known_threads_have_a_remedy_of_their_own() -> None:
    otel = findings.thread("thread", "OtelBatchSpanRecordProcessor")
    assert "OpenTelemetry" in findings.refusal([otel])
    assert "OMP" not in findings.refusal([otel])
    assert findings.refusal([findings.found("file", "open file x")]) == ""


def test_sockets_are_told_apart(look: Callable[[], list[Finding]], module: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    module.kept = (listener, socket.create_connection(("127.0.0.1", port)), socket.socket(type=socket.SOCK_DGRAM))
    found = look()
    for each in module.kept:
        each.close()
    assert {each.kind: each.what for each in found} == {
        "socket": f"open socket to 127.0.0.1:{port}",
        "listening socket": f"socket that listens at 127.0.0.1:{port}",
        "datagram socket": "open socket",
    }


def test_other_descriptors(look: Callable[[], list[Finding]], tmp_path: pathlib.Path) -> None:
    epoll, pipe = select.epoll(), os.pipe()
    with (tmp_path / "log").open("a"), pathlib.Path("/dev/null").open():
        found = look()
    epoll.close()
    for each in pipe:
        os.close(each)
    assert sorted(each.what for each in found) == sorted(
        ["eventpoll descriptor", "open pipe", "open pipe", f"open file {tmp_path / 'log'}"]
    )


def test_sqlite_with_a_file_is_found_once_and_one_in_memory_is_not(
    look: Callable[[], list[Finding]], module: Any, tmp_path: pathlib.Path
) -> None:
    module.db, module.table = sqlite3.connect(tmp_path / "db"), sqlite3.connect(":memory:")
    closed = sqlite3.connect(tmp_path / "other")
    closed.close()
    module.db.execute("create table t (a)")
    found = look()
    module.db.close()
    module.table.close()
    assert kinds(found) == {"connection": "shop.db"}
    assert str(tmp_path / "db") in found[0].what


def test_an_event_loop_is_one_finding_with_its_descriptors(look: Callable[[], list[Finding]], module: Any) -> None:
    module.loop = asyncio.new_event_loop()
    found = look()
    module.loop.close()
    assert kinds(found) == {"event loop": "shop.loop"}
    assert look() == []


def test_held_locks_and_sources_of_random_numbers(look: Callable[[], list[Finding]], module: Any) -> None:
    module.free, module.held, module.again = threading.Lock(), threading.Lock(), threading.RLock()
    module.held.acquire()
    module.again.acquire()
    module.dice, module.safe = random.Random(1), random.SystemRandom()
    found = sorted((each.kind, each.where) for each in look())
    assert found == [("held lock", "shop.again"), ("held lock", "shop.held"), ("random numbers", "shop.dice")]


def test_the_collector_is_switched_off_again(look: Callable[[], list[Finding]]) -> None:
    gc.enable()
    gc.collect()
    found = look()
    assert not gc.isenabled()
    assert kinds(found) == {"collector": ""}
    assert kinds(look()) == {"collections": ""}


def test_log_queues_and_exit_functions(look: Callable[[], list[Finding]]) -> None:
    handler = logging.handlers.QueueHandler(queue.SimpleQueue())
    logging.getLogger("shop").addHandler(handler)

    @atexit.register
    def say_goodbye() -> None: ...

    atexit.register(logging.shutdown)  # Python's own
    found = look()
    for function in (say_goodbye, logging.shutdown):
        atexit.unregister(function)
    logging.getLogger("shop").removeHandler(handler)
    assert {each.kind: each.what.rpartition(".")[2] for each in found} == {
        "log queue": "logger shop writes to a queue",
        "exit function": "say_goodbye()",
    }
    assert kinds(found)["exit function"] == f"{__file__}:{say_goodbye.__code__.co_firstlineno}"


def test_a_grpc_channel_needs_the_variable(
    look: Callable[[], list[Finding]], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = types.ModuleType("grpc._channel")

    class Channel:
        pass

    monkeypatch.setattr(there, "Channel", Channel, raising=False)
    monkeypatch.setitem(sys.modules, "grpc._channel", there)
    module.channel = Channel()
    module.channel.target = []  # with something in it the collector knows of it
    assert kinds(look()) == {"grpc": "shop.channel"}
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "true")
    assert look() == []


def test_idle_connections_of_sqlalchemy_are_closed(
    look: Callable[[], list[Finding]], module: Any, tmp_path: pathlib.Path
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    module.engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'db'}", poolclass=sqlalchemy.QueuePool)
    with module.engine.connect():
        pass
    assert kinds(look()) == {"engine": "shop.engine"}
    assert module.engine.pool.checkedin() == 0
    with module.engine.connect() as connection:
        assert {"connection"} == kinds(look()).keys()  # one that is in use
        assert connection.execute(sqlalchemy.text("select 1")).scalar() == 1
    module.engine.dispose()


def test_a_database_in_memory_of_sqlalchemy_is_left_alone(look: Callable[[], list[Finding]], module: Any) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    module.engine = sqlalchemy.create_engine("sqlite://")
    with module.engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (a)"))
    assert look() == []
    with module.engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select count(*) from t")).scalar() == 0
    module.engine.dispose()


def test_connections_of_django_are_closed(look: Callable[[], list[Finding]], tmp_path: pathlib.Path) -> None:
    conf = pytest.importorskip("django.conf", reason="Django is not installed")
    if not conf.settings.configured:
        file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
        conf.settings.configure(DATABASES={"default": file})
    connection = importlib.import_module("django.db").connection
    connection.ensure_connection()
    assert [each.what for each in look()] == ["Django's connection default"]
    assert connection.connection is None


def test_what_cannot_be_looked_at_is_a_finding(look: Callable[[], list[Finding]], module: Any) -> None:
    class Loop(asyncio.SelectorEventLoop):
        broken = False

        def is_closed(self) -> bool:
            if self.broken:
                raise RuntimeError("no")
            return super().is_closed()

    module.loop = Loop()
    module.loop.broken = True
    what = [each.what for each in look() if each.kind == "not looked at"]
    module.loop.broken = False
    module.loop.close()
    assert what == ["loops cannot be looked at: RuntimeError: no"]


def test_the_worst_come_first_and_no_report_is_too_long() -> None:
    many = [findings.found("file", "x" * 10_000, "y" * 10_000)] * 500 + [findings.found("socket", "open socket")]
    kept = findings.bounded(many)
    assert len(kept) == findings.MOST
    assert kept[0].kind == "socket"
    assert kept[-1].what == f"{501 - findings.MOST + 1} more findings are left out"
    ready = molding.Ready(Declared(()), 1, 1.0, 1, kept)
    assert len(msgspec.msgpack.encode(ready)) < molding.LARGEST // 2
    assert [each.kind for each in findings.pressing(kept)] == ["socket"]


def test_the_page_has_every_kind_with_its_severity_and_no_other() -> None:
    page = (DOCS / "fork-safety.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z -]+)` \| ([a-z ]+?)(?:, refused)? \|", page, re.MULTILINE))
    assert listed == {name: str(kind.severity) for name, kind in KINDS.items()}
    refused = set(re.findall(r"^\| `([a-z ]+)` \| must fix, refused", page, re.MULTILINE))
    assert refused == set(findings.REFUSED)
    assert all(KINDS[kind].severity is Severity.MUST_FIX for kind in findings.REFUSED)


LATE = """
import os
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import never
class Shop:
    import at_once
    def open(self):
        import first
        async def inner():
            from . import second
        if TYPE_CHECKING:
            import never
        with x:
            from a.b import third
"""


def test_imports_in_functions_are_seen_and_others_are_not() -> None:
    seen = [(function, ast.unparse(node)) for function, node in late.in_functions(ast.parse(LATE))]
    assert seen == [
        ("open", "import first"),
        ("inner", "from . import second"),
        ("open", "from a.b import third"),
    ]


def test_late_imports_are_those_that_would_load_something(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shopped"
    package.mkdir()
    (package / "__init__.py").write_text("known = 1\n")
    (package / "prices.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "lonely_module.py").write_text("raise RuntimeError('imported')\n")
    (package / "tasks.py").write_text(
        textwrap.dedent("""\
            def resize():
                import os, lonely_module, not_installed_anywhere
                from . import prices, known
                from .prices import cheap
                from os import path
            """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.import_module("shopped.tasks")
    assert [(each.where, each.module, each.function) for each in late.predicted(["shopped"])] == [
        ("shopped/tasks.py:2", "lonely_module", "resize"),
        ("shopped/tasks.py:3", "shopped.prices", "resize"),
        ("shopped/tasks.py:4", "shopped.prices", "resize"),
    ]
