"""A server that cannot serve just now is one to wait for, never a reason to give a pack up or to charge a task."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator

import pytest
from support.holder import QUEUE, Holder, put, stats
from support.servers import RedisServer

from qslots.connection import ListedUrl, open_redis, without_password
from qslots.errors import QueueServerDown, QueueServerError, SettingsError
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer


@contextlib.contextmanager
def read_only(server: QueueServer) -> Iterator[None]:
    """As an old primary is after a failover."""
    server.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        server.redis.execute_command("REPLICAOF", "NO", "ONE")


def test_read_only_server_refuses_for_now_and_nothing_is_half_done(server: QueueServer) -> None:
    put(server, "a", "b")
    slot = Holder(server, "s")
    slot.work(1)
    operations = [
        lambda: put(server, "c"),
        slot.take,
        lambda: slot.settle({1: Outcome("retry", delay=0.0)}),
        slot.release,
        slot.die,
        lambda: server.extend(QUEUE, 60.0, ["s:1"]),
    ]
    with read_only(server):
        for operation in operations:
            with pytest.raises(QueueServerDown, match="refuses for now"):
                operation()
    assert (stats(server).active, stats(server).locked, stats(server).put) == (1, 1, 2)
    assert slot.keep(slot.again()) == ["b"]


def test_full_server_is_one_that_refuses_for_now(server: QueueServer) -> None:
    server.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueServerDown, match=r"refuses for now: .*maxmemory"):
            put(server, "a")
    finally:
        server.redis.config_set("maxmemory", 0)


def test_key_of_another_kind_is_no_reason_to_wait(server: QueueServer) -> None:
    server.redis.set(server.keys_of(QUEUE).part("tasks"), "text")
    with pytest.raises(QueueServerError, match="WRONGTYPE") as error:
        put(server, "a")
    assert not isinstance(error.value, QueueServerDown)


def test_scripts_are_loaded_again_by_a_server_that_has_forgotten_them(server: QueueServer) -> None:
    put(server, "a")
    server.redis.script_flush()
    assert Holder(server, "s").work() == ["a"]


def test_client_connects_again_after_its_connections_were_cut(server: QueueServer) -> None:
    slot = Holder(QueueServer(server.url, name="slot", single=True), "s")
    put(server, "a", "b")
    assert slot.work(1) == ["a"]
    server.redis.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(QueueServerDown):
        slot.take(1)
    slot.server.close()
    assert slot.keep(slot.again(1)) == ["b"]
    slot.server.close()


def test_server_that_is_not_there_is_named_with_the_remedy(redis_server: RedisServer) -> None:
    url = f"unix://{redis_server.folder}/none"
    with pytest.raises(QueueServerDown, match=r"/none does not answer: .*; is it running, is the URL right\?"):
        put(QueueServer(url, name="t"), "a")
    with pytest.raises(QueueServerDown, match="/none does not answer"):
        QueueServer(url, name="t", single=True).version()


def test_single_connection_is_opened_at_its_first_use_so_its_owner_may_be_there_first(
    redis_server: RedisServer,
) -> None:
    early = QueueServer(redis_server.url, name="t", single=True)
    assert early.redis.connection is not None
    early.close()
    assert early.version() >= (6, 2)


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port", ""])
def test_url_that_is_none_is_refused_by_its_form(url: str) -> None:
    with pytest.raises(SettingsError, match="queue server"):
        open_redis(url, name="t")


@pytest.mark.parametrize(("url", "shown"), [
    ("redis://:secret@host/0", "redis://:***@host/0"),
    ("rediss://user:secret@host:1/0", "rediss://user:***@host:1/0"),
    ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock?db=1&password=***"),
    ("redis://host/0", "redis://host/0"),
    (ListedUrl("redis://:secret@host/0", "second"), "second (redis://:***@host/0)"),
])  # fmt: skip
def test_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


class OldServer(socketserver.StreamRequestHandler):
    """Says what a server of long ago says of itself, to the few questions that come first."""

    def handle(self) -> None:
        said = b"# Server\r\nredis_version:5.0.14\r\n"
        while request := self.request.recv(65536):
            self.request.sendall(b"$%d\r\n%s\r\n" % (len(said), said) if b"INFO" in request else b"+OK\r\n")


def test_server_that_is_too_old_is_refused_by_its_version() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as old:
        old.daemon_threads = True
        serving = threading.Thread(target=old.serve_forever)
        serving.start()
        try:
            there = QueueServer(f"redis://127.0.0.1:{old.server_address[1]}", name="t")
            with pytest.raises(QueueServerError, match=r"is Redis 5\.0\.14: 6\.2 or later is needed"):
                put(there, "a")
            there.close()
        finally:
            old.shutdown()
            serving.join()
