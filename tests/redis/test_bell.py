"""How an idle slot is woken: by a token, by its own sockets, by the time; also just after a fault."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.servers import RedisServer
from support.waiting import wait_for

from qslots.bell import Bell
from qslots.errors import QueueServerDown
from qslots.queueserver import QueueServer

SOON = 0.08  # s; seen: under 2 ms


@pytest.fixture
def waiter(server: QueueServer) -> Iterator[QueueServer]:
    found = QueueServer(server.url, name="slot", single=True)
    yield found
    found.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
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


def once_blocked(server: QueueServer, act: object) -> threading.Thread:
    """Does ``act`` when a client is blocked."""

    def wait_and_act() -> None:
        wait_for(lambda: server.redis.info("clients")["blocked_clients"], "a blocked client")
        act()  # type: ignore[operator]

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_token_of_any_list_wakes_at_once(server: QueueServer, waiter: QueueServer) -> None:
    thread = once_blocked(server, lambda: server.redis.rpush("b", "1"))
    with Elapsed() as took:
        assert Bell(waiter).wait(["a", "b"], 5.0, [])
    thread.join()
    assert took.seconds < 1


def test_token_that_is_there_already_is_taken_at_once(server: QueueServer, waiter: QueueServer) -> None:
    bell = Bell(waiter)
    for _ in range(5):  # the reply may come with the one before it, in one read
        server.redis.rpush("a", "1")
        with Elapsed() as took:
            assert bell.wait(["a"], 2.0, [])
        assert took.seconds < SOON


def test_other_socket_ends_the_wait_and_no_token_is_lost(
    server: QueueServer, waiter: QueueServer, pair: tuple[socket.socket, socket.socket]
) -> None:
    bell = Bell(waiter)
    thread = once_blocked(server, lambda: pair[1].send(b"x"))
    with Elapsed() as took:
        assert not bell.wait(["a"], 5.0, [pair[0]])
    thread.join()
    assert took.seconds < 1
    server.redis.rpush("a", "1")
    assert server.redis.llen("a") == 1  # nobody is blocked any more
    assert waiter.redis.ping()


def test_wait_ends_at_the_time_given_and_not_at_redis_own_tick(waiter: QueueServer) -> None:
    bell = Bell(waiter)
    for seconds in (0.0, 0.03, 0.11):
        with Elapsed() as took:
            assert not bell.wait(["a"], seconds, [])
        assert seconds <= took.seconds < seconds + SOON


def test_bell_rings_after_the_connections_were_closed(server: QueueServer, waiter: QueueServer) -> None:
    bell = Bell(waiter)
    assert not bell.wait(["a"], 0.0, [])
    waiter.close()
    server.redis.rpush("a", "1")
    assert bell.wait(["a"], 1.0, [])
    assert waiter.redis.ping()


def test_bell_rings_again_after_the_server_cut_the_connection(server: QueueServer, waiter: QueueServer) -> None:
    bell = Bell(waiter)
    assert not bell.wait(["a"], 0.0, [])
    thread = once_blocked(server, lambda: server.redis.client_kill_filter(_type="normal", skipme=True))
    with pytest.raises(QueueServerDown):
        bell.wait(["a"], 5.0, [])
    thread.join()
    waiter.close()
    server.redis.rpush("a", "1")
    assert bell.wait(["a"], 1.0, [])


def test_wait_on_a_server_that_is_not_there_is_an_error_of_ours(redis_server: RedisServer) -> None:
    nowhere = QueueServer(f"unix://{redis_server.folder}/none", name="slot", single=True)
    with pytest.raises(QueueServerDown, match="does not answer"):
        Bell(nowhere).wait(["a"], 0.1, [])
