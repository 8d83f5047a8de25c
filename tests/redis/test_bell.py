"""How an idle slot is woken: by a token of any of its servers, by its own sockets, by the time; also after a fault."""

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.servers import RedisServer
from support.waiting import wait_for

from qslots.bell import Bell
from qslots.queueserver import QueueServer
from qslots.servers import QueueServers

TICK = 0.1  # s between two looks of Redis at the time-outs of who is blocked
SOON = 2.0  # s; seen: under 2 ms, but a busy machine may pause for longer than Redis
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def waiter(server: QueueServer) -> Iterator[QueueServers]:
    found = QueueServers({"a": server.url}, {}, name="slot", single=True)
    yield found
    found.close()


@pytest.fixture
def both(server: QueueServer, second: QueueServer) -> Iterator[QueueServers]:
    found = QueueServers({"a": server.url, "b": second.url}, {}, name="slot", single=True)
    yield found
    found.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


class Elapsed:
    def __enter__(self) -> "Elapsed":
        self.start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self.start


def blocked(server: QueueServer) -> int:
    return int(server.redis.info("clients")["blocked_clients"])


def once_blocked(act: Callable[[], object], *servers: QueueServer) -> threading.Thread:
    """Does ``act`` when a client is blocked on each of these servers."""

    def wait_and_act() -> None:
        for server in servers:
            wait_for(lambda: blocked(server), "a blocked client")  # noqa: B023 - waited for before the next
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_token_of_any_list_wakes_at_once(server: QueueServer, waiter: QueueServers) -> None:
    thread = once_blocked(lambda: server.redis.rpush("y", "1"), server)
    with Elapsed() as took:
        assert Bell(waiter).wait({"a": ["x", "y"]}, 5.0, []).tokens == [("a", "y")]
    thread.join()
    assert took.seconds < SOON


def test_token_that_is_there_already_is_taken_at_once(server: QueueServer, waiter: QueueServers) -> None:
    bell = Bell(waiter)
    for _ in range(5):  # the reply may come with the one before it, in one read
        server.redis.rpush("x", "1")
        with Elapsed() as took:
            assert bell.wait({"a": ["x"]}, 5.0, []).tokens
        assert took.seconds < SOON


def test_other_socket_ends_the_wait_and_no_token_is_lost(server: QueueServer, waiter: QueueServers, pair: Pair) -> None:
    bell = Bell(waiter)
    thread = once_blocked(lambda: pair[1].send(b"x"), server)
    with Elapsed() as took:
        rung = bell.wait({"a": ["x"]}, 5.0, [pair[0]])
    thread.join()
    assert (rung.tokens, rung.down) == ([], [])
    assert took.seconds < SOON
    server.redis.rpush("x", "1")
    assert server.redis.llen("x") == 1  # nobody is blocked any more
    assert waiter["a"].redis.ping()


def test_wait_ends_at_the_time_given_and_not_at_redis_own_tick(waiter: QueueServers) -> None:
    bell = Bell(waiter)
    for seconds in (0.0, 0.03, 0.11):
        spans = []
        for _ in range(9):
            with Elapsed() as took:
                assert not bell.wait({"a": ["x"]}, seconds, []).tokens
            spans.append(took.seconds)
        assert min(spans) >= seconds
        assert statistics.median(spans) < seconds + TICK / 4, spans


def test_bell_rings_after_the_connections_were_closed(server: QueueServer, waiter: QueueServers) -> None:
    bell = Bell(waiter)
    assert not bell.wait({"a": ["x"]}, 0.0, []).tokens
    waiter.close()
    server.redis.rpush("x", "1")
    assert bell.wait({"a": ["x"]}, 1.0, []).tokens
    assert waiter["a"].redis.ping()


def test_bell_rings_again_after_the_server_cut_the_connection(server: QueueServer, waiter: QueueServers) -> None:
    bell = Bell(waiter)
    assert not bell.wait({"a": ["x"]}, 0.0, []).tokens
    thread = once_blocked(lambda: server.redis.client_kill_filter(_type="normal", skipme=True), server)
    with Elapsed() as took:
        assert bell.wait({"a": ["x"]}, 5.0, []).down == ["a"]
    thread.join()
    assert took.seconds < SOON
    server.redis.rpush("x", "1")
    assert bell.wait({"a": ["x"]}, 1.0, []).tokens


def test_server_that_is_not_there_is_named(redis_server: RedisServer) -> None:
    nowhere = QueueServers({"a": f"unix://{redis_server.folder}/none"}, {}, name="slot", single=True)
    assert Bell(nowhere).wait({"a": ["x"]}, 0.1, []).down == ["a"]


@pytest.mark.parametrize("which", [0, 1])
def test_token_of_any_server_wakes_and_the_others_are_blocked_no_more(
    server: QueueServer, second: QueueServer, both: QueueServers, which: int
) -> None:
    bell, name = Bell(both), "ab"[which]
    for _ in range(3):
        thread = once_blocked(lambda: (server, second)[which].redis.rpush("y", "1"), server, second)
        with Elapsed() as took:
            assert bell.wait({"a": ["x", "y"], "b": ["y"]}, 5.0, []).tokens == [(name, "y")]
        thread.join()
        assert took.seconds < SOON
        assert (blocked(server), blocked(second)) == (0, 0)
        assert both["a"].redis.ping() and both["b"].redis.ping()


def test_tokens_of_two_servers_at_once_are_both_told(
    server: QueueServer, second: QueueServer, both: QueueServers
) -> None:  # case 14
    bell = Bell(both)
    server.redis.rpush("x", "1")
    second.redis.rpush("y", "1")
    found = bell.wait({"a": ["x"], "b": ["y"]}, 1.0, []).tokens
    left = [("a", "x")] * server.redis.llen("x") + [("b", "y")] * second.redis.llen("y")
    assert sorted(found + left) == [("a", "x"), ("b", "y")]  # none is swallowed
    assert sorted(found) == [("a", "x"), ("b", "y")]


def test_own_socket_and_the_time_end_the_waits_on_all_servers(
    server: QueueServer, second: QueueServer, both: QueueServers, pair: Pair
) -> None:
    bell = Bell(both)
    with Elapsed() as took:
        assert not bell.wait({"a": ["x"], "b": ["x"]}, 0.05, [pair[0]]).tokens
    assert 0.05 <= took.seconds < SOON
    thread = once_blocked(lambda: pair[1].send(b"x"), server, second)
    with Elapsed() as took:
        assert not bell.wait({"a": ["x"], "b": ["x"]}, 5.0, [pair[0]]).tokens
    thread.join()
    assert took.seconds < SOON
    assert (blocked(server), blocked(second)) == (0, 0)


def test_server_that_goes_away_ends_the_wait_and_the_other_rings_on(
    server: QueueServer, second: QueueServer, both: QueueServers
) -> None:
    bell = Bell(both)
    thread = once_blocked(lambda: second.redis.client_kill_filter(_type="normal", skipme=True), server, second)
    with Elapsed() as took:
        rung = bell.wait({"a": ["x"], "b": ["x"]}, 5.0, [])
    thread.join()
    assert (rung.tokens, rung.down) == ([], ["b"])
    assert took.seconds < SOON
    assert blocked(server) == 0
    server.redis.rpush("x", "1")
    assert bell.wait({"a": ["x"]}, 1.0, []).tokens == [("a", "x")]


def test_server_that_is_away_does_not_keep_the_other_blocked(server: QueueServer, redis_server: RedisServer) -> None:
    servers = QueueServers({"a": server.url, "b": f"unix://{redis_server.folder}/none"}, {}, name="slot", single=True)
    with Elapsed() as took:
        rung = Bell(servers).wait({"a": ["x"], "b": ["x"]}, 5.0, [])
    assert (rung.down, blocked(server)) == (["b"], 0)
    assert took.seconds < SOON
    servers.close()
