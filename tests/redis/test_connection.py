"""One round trip: what came of it, whether it can have been sent, and that the next one is not touched by it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import redis
from support.servers import RedisServer
from support.waiting import wait_for

from qslots.connection import KINDS, SCHEMES, Link, open_redis, prepare, translation, user_of, without_password
from qslots.errors import QueueServerDown, QueueServerError, SettingsError
from qslots.limits import timed
from qslots.outcomes import SoftTimeLimit
from qslots.queueserver import QueueServer
from qslots.scoreboard import Record
from qslots.tasks import task

PATIENCE = 0.6  # seconds


@pytest.fixture(params=["pool", "single"])
def link(request: pytest.FixtureRequest, server: QueueServer) -> Iterator[Link]:
    """Round trips to an empty queue server, over a pool's connections or over one that is kept open."""
    client = open_redis(server.url, name="t", timeout=PATIENCE, single=request.param == "single")
    yield Link(client, server.url)
    client.close()


def test_client_that_was_prepared_serves_each_child_of_a_fork_by_a_connection_of_its_own(server: QueueServer) -> None:
    prepare(server.url, PATIENCE)
    for number in range(2):
        child = os.fork()
        if child == 0:
            try:
                client = open_redis(server.url, name=f"slot-{number}", timeout=PATIENCE, single=True)
                link = Link(client, server.url)
                named = link.call("CLIENT", "GETNAME") == b"qslots-slot-%d" % number
                client.close()
                again = open_redis(server.url, name="again", timeout=PATIENCE, single=True)
                other = Link(again, server.url).call("CLIENT", "GETNAME") == b"qslots-again"
                os._exit(0 if named and other and again is not client else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with contextlib.closing(open_redis(server.url, name="here", timeout=PATIENCE, single=True)) as client:
        assert Link(client, server.url).call("CLIENT", "GETNAME") == b"qslots-here"


def test_single_connection_is_closed_with_its_queue_server(server: QueueServer) -> None:
    single = QueueServer(server.url, name="one", single=True)
    single.version()
    assert b"name=qslots-one" in server.link.call("CLIENT", "LIST")
    single.close()
    wait_for(lambda: b"name=qslots-one" not in server.link.call("CLIENT", "LIST"), "the connection is closed")


def test_replies_come_in_order(link: Link) -> None:
    assert link.call("SET", "qs:a", "1") == b"OK"
    assert link.calls(("INCR", "qs:a"), ("GET", "qs:a"), ("GET", "qs:b")) == [2, b"2", None]


def test_error_among_several_replies_is_raised_after_all_were_read(link: Link) -> None:
    with pytest.raises(QueueServerError, match="WRONGTYPE") as error:
        link.calls(("SET", "qs:a", "1"), ("LPOP", "qs:a"), ("SADD", "qs:a", "x"), ("SET", "qs:b", "2"))
    assert not isinstance(error.value, QueueServerDown)
    assert link.calls(("GET", "qs:a"), ("GET", "qs:b")) == [b"1", b"2"]


def test_refusal_of_a_request_leaves_the_connection_open(link: Link) -> None:
    me = link.call("CLIENT", "ID")
    with pytest.raises(redis.exceptions.NoScriptError):
        link.call("EVALSHA", "0" * 40, 0)
    with pytest.raises(QueueServerError):
        link.call("LPOP")
    assert link.call("CLIENT", "ID") == me


def test_refusal_for_now_closes_the_connection(link: Link, server: QueueServer) -> None:
    me = link.call("CLIENT", "ID")
    server.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(QueueServerDown, match="refuses for now"):
            link.call("SET", "qs:a", "1")
    finally:
        server.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert link.call("CLIENT", "ID") != me


def test_wait_that_ends_because_the_primary_is_demoted_is_a_refusal_for_now(server: QueueServer) -> None:
    link = Link(open_redis(server.url, name="t"), server.url)
    demotion = threading.Thread(target=_demote_when_somebody_waits, args=(server,))
    demotion.start()
    try:
        with pytest.raises(QueueServerDown, match="refuses for now: UNBLOCKED"):
            link.call("BLPOP", "qs:none", 4)
    finally:
        demotion.join()
        server.redis.execute_command("REPLICAOF", "NO", "ONE")


def _demote_when_somebody_waits(server: QueueServer) -> None:
    wait_for(lambda: server.redis.info("clients")["blocked_clients"], "a blocked client")
    server.redis.execute_command("REPLICAOF", "127.0.0.1", "1")


def test_what_is_no_command_is_the_callers_mistake(link: Link) -> None:
    with pytest.raises(TypeError):
        link.call("SET", "qs:a", None)
    assert link.call("PING") == b"PONG"


def test_server_may_take_longer_where_it_was_told_to_wait(link: Link) -> None:
    with pytest.raises(QueueServerDown):
        link.call("BLPOP", "qs:none", 2 * PATIENCE)
    assert link.calls(("BLPOP", "qs:none", 2 * PATIENCE), ("PING",), wait=2 * PATIENCE) == [None, b"PONG"]
    with pytest.raises(QueueServerDown):
        link.call("BLPOP", "qs:none", 2 * PATIENCE)


def test_answer_to_an_interrupted_request_is_not_taken_for_anothers(link: Link) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE / 4)
    try:
        with pytest.raises(KeyboardInterrupt):
            link.call("BLPOP", "qs:none", PATIENCE / 2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert link.call("PING") == b"PONG"


def test_soft_limit_that_rings_while_a_request_is_packed_is_raised_later(server: QueueServer) -> None:
    endless = 10**100_000  # to write it out takes long, and looks for signals
    pid = os.fork()
    if pid == 0:
        link, code = Link(open_redis(server.url, name="test"), server.url), 1
        sys.set_int_max_str_digits(0)

        @task(soft_time_limit="10ms")
        def ask() -> None:
            link.call("PING")
            while True:
                link.call("ECHO", endless)

        try:
            timed(ask.handler, Record.unshared())()
        except SoftTimeLimit:
            code = 0 if link.call("ECHO", "still") == b"still" else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0


def test_connection_that_was_cut_is_opened_again(link: Link, server: QueueServer) -> None:
    link.call("PING")
    server.redis.client_kill_filter(_type="normal", skipme=True)
    try:
        link.call("PING")
    except QueueServerDown as error:
        assert error.sent  # a single connection notices only when it reads
    assert link.call("PING") == b"PONG"


@pytest.mark.parametrize("single", [False, True])
def test_nothing_was_sent_where_nobody_listens(redis_server: RedisServer, single: bool) -> None:
    url = f"unix://{redis_server.folder}/none"
    with pytest.raises(QueueServerDown) as error:
        Link(open_redis(url, name="t", single=single), url).call("PING")
    assert not error.value.sent


def test_nothing_was_sent_to_a_host_without_an_address() -> None:
    url = "redis://no-such-host.invalid"
    with pytest.raises(QueueServerDown, match="no-such-host") as error:
        Link(open_redis(url, name="t"), url).call("PING")
    assert not error.value.sent


def test_nothing_was_stored_by_a_server_that_is_loading() -> None:
    said = redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory")
    error = translation("redis://here", said)
    assert isinstance(error, QueueServerDown) and not error.sent


def test_request_to_a_server_that_hangs_may_have_reached_it(link: Link, redis_server: RedisServer) -> None:
    link.call("PING")
    fresh = Link(open_redis(redis_server.url, name="t", timeout=PATIENCE), redis_server.url)
    redis_server.send(signal.SIGSTOP)
    try:
        with pytest.raises(QueueServerDown) as known:
            link.call("PING")
        with pytest.raises(QueueServerDown) as unknown:
            fresh.call("PING")
    finally:
        redis_server.send(signal.SIGCONT)
    assert (known.value.sent, unknown.value.sent) == (True, False)
    assert link.call("PING") == b"PONG"


def test_each_thread_may_have_its_connection(server: QueueServer) -> None:
    client = open_redis(server.url, name="t")
    held = [client.connection_pool.get_connection() for _ in range(150)]
    assert Link(client, server.url).call("PING") == b"PONG"
    for connection in held:
        client.connection_pool.release(connection)
    client.close()


@pytest.mark.parametrize("url", [
    "redis+sentinel://h1,h2/",
    "redis+sentinel:///main/0",
    "redis+sentinel://h1,,h2/main",
    "redis+sentinel://h1:port/main",
    "redis+sentinel://h1/main/zero",
    "redis+sentinel://user:secret/1@h1/main",
    "redis+sentinel://h1/main?nonsense=1",
    "redis://:secret/1@host/0",
    "redis://host/main",
    "redis://host/0?nonsense=1",
    "redis://host/0?protocol=9",
    "rediss://host/0?ssl_cert_reqs=nonsense",
    "sentinel://h1/main",
])  # fmt: skip
def test_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="queue server") as error:
        open_redis(url, name="t")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", [
    "redis+sentinel://h1/main",
    "redis+sentinel://user:pass%2Fword@h1,h2:26380,[::1]:26381/my-main.1/3?sentinel_password=x&db=1",
    "rediss+sentinel://h1,h2/main/0?ssl_cert_reqs=none",
    "redis://host",
    "redis://host/?socket_timeout=1",
    "rediss://host/1",
    "unix:///run/redis.sock?db=1",
])  # fmt: skip
def test_url_is_taken_as_documented(url: str) -> None:
    open_redis(url, name="t").close()


@pytest.mark.parametrize(("url", "shown"), [
    ("redis+sentinel://u:secret@h1:1,h2:2/main", "redis+sentinel://u:***@h1:1,h2:2/main"),
    ("redis+sentinel://h1:1,h2:2/main/0", "redis+sentinel://h1:1,h2:2/main/0"),
    ("redis+sentinel://h1/main?sentinel_password=secret&db=1", "redis+sentinel://h1/main?sentinel_password=***&db=1"),
    ("redis://u:se/cr@et@host/0", "redis://u:***@host/0"),
])  # fmt: skip
def test_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(("url", "user"), [
    ("redis://host", "default"),
    ("redis://:secret@host", "default"),
    ("redis+sentinel://an%40n:secret@h1,h2/main", "an@n"),
    ("unix:///run/s?username=ann", "ann"),
])  # fmt: skip
def test_user_is_known_by_the_url(url: str, user: str) -> None:
    assert user_of(url) == user


def test_every_scheme_is_told() -> None:
    assert all(scheme in KINDS for scheme in SCHEMES)


def test_wrong_password_is_said_to_be_one(redis_server: RedisServer) -> None:
    url = f"unix://ann:secret@{redis_server.socket}"
    with pytest.raises(QueueServerDown, match="does not let user 'ann' in") as error:
        Link(open_redis(url, name="t"), url).call("PING")
    assert "secret" not in str(error.value)
    assert not error.value.sent
