"""A primary that dies or is demoted under Sentinel: work goes on through the next one, and what was proven is there."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from support import servers
from support.holder import Holder, put
from support.sentinels import NAME, SETTINGS, Numbers, Watched, link_to, url_of, watched
from support.servers import RedisServer
from support.waiting import wait_for

from qslots.connection import Link, open_redis
from qslots.durability import check_reply, fit_for_tasks, parse, promise
from qslots.errors import QueueServerDown
from qslots.queueserver import QueueServer

KEY = "qs:{q}:numbers"
PROVEN = parse("replicated(1, 300ms)")
PATIENCE = 1.0  # seconds for one answer
Start = Callable[..., RedisServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers on ports of their own; all end with the test."""
    with contextlib.ExitStack() as stack:

        def started(binary: servers.Binary, **how: Any) -> RedisServer:
            server = RedisServer(binary, port=servers.free_port(), **how)
            stack.callback(server.stop)
            return server

        yield started


def installed(*names: str) -> servers.Binary:
    """The first of these programs that is there."""
    found = [servers.find(name) for name in names]
    for binary in found:
        if not binary.missing:
            return binary
    pytest.skip("; ".join(binary.missing for binary in found))


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("which", servers.BINARIES)
def test_demoted_primary_is_left_for_the_next_one(which: str, single: bool, start: Start) -> None:
    binary = installed(which)
    old, new = start(binary), start(binary)
    sentinel = start(binary, file=SETTINGS.format(port=old.port, quorum=1), sentinel=True)
    url = url_of([sentinel])
    link = Link(open_redis(url, name="t", timeout=PATIENCE, single=single), url)
    assert link.call("SET", "qs:where", "old") == b"OK"
    assert link.call("CLIENT", "ID") == link.call("CLIENT", "ID")  # the Sentinels are asked once

    link_to(old).call("REPLICAOF", "127.0.0.1", new.port)
    told = link_to(sentinel)
    told.call("SENTINEL", "REMOVE", NAME)
    with pytest.raises(QueueServerDown) as error:
        link.call("SET", "qs:where", "nowhere")
    assert error.value.sent
    with pytest.raises(
        QueueServerDown, match=rf"no Sentinel knows a primary '{NAME}'.*watches none of this name"
    ) as error:
        link.call("SET", "qs:where", "nowhere")
    assert not error.value.sent
    told.call("SENTINEL", "MONITOR", NAME, "127.0.0.1", new.port, 1)
    assert link.call("SET", "qs:where", "new") == b"OK"
    assert link_to(new).call("GET", "qs:where") == b"new"


def test_sentinels_that_are_gone_or_hang_are_passed_over(start: Start) -> None:
    binary = installed(*servers.BINARIES)
    primary = start(binary)
    gone, hanging, there = (
        start(binary, file=SETTINGS.format(port=primary.port, quorum=1), sentinel=True) for _ in range(3)
    )
    gone.stop()
    hanging.send(signal.SIGSTOP)
    url = url_of([gone, hanging, there])
    assert Link(open_redis(url, name="t", timeout=0.1, single=True), url).call("PING") == b"PONG"
    there.stop()
    with pytest.raises(QueueServerDown, match="no Sentinel knows") as error:
        Link(open_redis(url, name="t", timeout=0.1), url).call("PING")
    message = str(error.value)
    assert all(f"127.0.0.1:{each.port} says" in message for each in (gone, hanging, there))


def test_work_goes_on_and_nothing_proven_is_lost_when_the_primary_is_killed() -> None:
    with watched(installed("path", *servers.BINARIES)) as there:
        _kill_and_look(there)


def _kill_and_look(there: Watched) -> None:
    url = there.url
    server = QueueServer(url, name="t", timeout=PATIENCE, single=True)
    slot = Holder(QueueServer(url, name="t", timeout=PATIENCE, single=True), "s")
    put(server, "before")
    assert slot.work() == ["before"]
    fit_for_tasks(Link(server.redis, url), url)

    with Numbers(proving(url)) as numbers:
        wait_for(lambda: len(numbers.proven) >= 100, "the producer to have stored some")
        there.primary.send(signal.SIGKILL)
        until = len(numbers.proven) + 200
        wait_for(lambda: len(numbers.proven) >= until, "the next primary to be found and written to", within=15)

    survivors = [each for each in there.replicas if link_to(each).call("ROLE")[0] == b"master"]
    assert len(survivors) == 1
    kept = link_to(survivors[0]).call("ZRANGE", KEY, 0, -1)
    assert set(numbers.proven) <= {int(number) for number in kept}

    def answered(request: Callable[[], object]) -> list[Any]:
        with contextlib.suppress(QueueServerDown):
            return [request()]
        server.close()
        slot.server.close()
        return []

    wait_for(partial(answered, lambda: put(server, "after", own_ids=True, on_duplicate="ignore")), "a task to be put")
    slot.seq += 1
    [answer] = wait_for(partial(answered, slot.again), "it to be taken, by one request that is repeated")
    assert slot.keep(answer) == ["after"]


def proving(url: str) -> Callable[[int], None]:
    """Stores a number by one pair of commands; raises unless a replica has it."""
    link = Link(open_redis(url, name="t", timeout=PATIENCE), url)
    command = promise(link, url, PROVEN)
    assert command is not None

    def store(number: int) -> None:
        _, reply = link.calls(("ZADD", KEY, number, number), command)
        check_reply(PROVEN, reply, url)

    return store
