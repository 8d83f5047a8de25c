"""A queue that is spread over two queue servers, as an application uses it, while one of them is away."""

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.deaf import DeafLine
from support.holder import HANDLER, Holder, put
from support.servers import RedisServer

from qslots import (
    DuplicateTask,
    Queue,
    QueueServerDown,
    QueueServerError,
    Task,
    TaskLocked,
    TaskState,
    UnknownTask,
    client,
    gates,
)
from qslots.outcomes import Outcome
from qslots.queueserver import Exchange, QueueServer
from qslots.results import kept
from qslots.servers import QueueServers

QUEUE = "spread"
queue = Queue(QUEUE)
BOTH = ("a", "b")
OF_A, OF_B = "own-4", "own-1"  # ids whose homes are these; a test holds it


@pytest.fixture(scope="module")
def second(redis_server: RedisServer) -> Iterator[RedisServer]:
    """Another server of the same binary."""
    found = RedisServer(redis_server.binary)
    yield found
    found.stop()


def connected(monkeypatch: pytest.MonkeyPatch, a: str, b: str) -> QueueServers:
    found = QueueServers({"a": a, "b": b}, {QUEUE: BOTH}, name="test")
    monkeypatch.setattr(client, "_current", found)
    return found


@pytest.fixture
def servers(
    server: QueueServer,
    second: RedisServer,
    forgetful: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[QueueServers]:
    """Both answer."""
    found = connected(monkeypatch, server.url, second.url)
    found["b"].redis.flushall()
    yield found
    found.close()


@pytest.fixture(params=BOTH)
def down(request: pytest.FixtureRequest, servers: QueueServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the server that nobody reaches until ``restored``."""
    urls = servers.urls | {request.param: servers.urls[request.param] + ".away"}
    found = connected(monkeypatch, **urls)
    yield request.param
    found.close()


@pytest.fixture
def up(down: str) -> str:
    """The name of the one that answers."""
    return "b" if down == "a" else "a"


def active(servers: QueueServers, place: str) -> int:
    return servers[place].stats([QUEUE])[0].active


def on(servers: QueueServers, place: str, *names: str, **how: object) -> None:
    put(servers[place], *names, queue=QUEUE, **how)


def ids(count: int) -> list[str]:
    return [f"own-{n}" for n in range(count)]


def test_tasks_without_an_id_of_their_own_go_to_all_servers_by_turns(servers: QueueServers) -> None:
    for n in range(10):
        queue.put_many([{"n": n}])
    assert (active(servers, "a"), active(servers, "b")) == (5, 5)


def test_each_queue_has_its_own_turns(servers: QueueServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(servers._places, "other", BOTH)
    for n in range(10):
        queue.put_many([{"n": n}])
        Queue("other").put_many([{"n": n}])
    assert (active(servers, "a"), active(servers, "b")) == (5, 5)


def test_id_of_ones_own_has_one_home_for_everyone(servers: QueueServers) -> None:
    other = QueueServers(servers.urls, {QUEUE: BOTH}, name="other")
    assert (servers.home(QUEUE, OF_A), servers.home(QUEUE, OF_B)) == BOTH
    queue.put_many([{}] * 50, ids=ids(50))
    for place in BOTH:
        found, _ = servers[place].link.calls(("HKEYS", servers[place].keys_of(QUEUE).part("tasks")), ("PING",))
        assert {name.decode() for name in found} == {name for name in ids(50) if other.home(QUEUE, name) == place}
    assert min(active(servers, "a"), active(servers, "b")) > 10
    for name in (OF_A, OF_B):
        with pytest.raises(DuplicateTask):
            queue.put_many([{}], ids=[name])
    assert queue.stats().put == 50


def test_put_goes_to_the_server_that_answers(servers: QueueServers, down: str, up: str) -> None:
    for n in range(6):
        queue.put_many([{"n": n}])
    assert (active(servers, up), active(servers, down)) == (6, 0)


def test_id_of_ones_own_waits_for_its_home(servers: QueueServers, down: str, up: str) -> None:
    here, there = (OF_A, OF_B) if up == "a" else (OF_B, OF_A)
    queue.put_many([{}], ids=[here])
    with pytest.raises(QueueServerDown):
        queue.put_many([{}], ids=[there])
    assert (active(servers, up), active(servers, down)) == (1, 0)


@pytest.mark.parametrize("place", BOTH)
def test_task_is_found_and_changed_wherever_it_is(servers: QueueServers, place: str) -> None:
    on(servers, place, "x")
    info = queue.get("x")
    assert info is not None
    assert info.server == place
    queue.move("x", 7e9)
    queue.update("x", size=3)
    queue.bury("x", "by hand")
    assert [(each.kwargs, each.state, each.server) for each in queue.find()] == [
        ({"size": 3}, TaskState.FATAL_FAILURE, place)
    ]
    assert queue.kick("x") == 1
    assert Holder(servers[place], "s", QUEUE).work() == ["x"]
    with pytest.raises(TaskLocked):
        queue.move("x", 1.0)
    queue.delete("x")
    assert (queue.get("x") or pytest.fail("gone")).afterwards == "gone"


def test_task_that_is_nowhere_is_unknown(servers: QueueServers) -> None:
    on(servers, "a", "x")
    assert queue.get("y") is None
    for change in (lambda: queue.move("y", 1.0), lambda: queue.delete("y"), lambda: queue.update("y", size=1)):
        with pytest.raises(UnknownTask):
            change()


def test_tasks_of_all_servers_are_found_up_to_a_limit(servers: QueueServers) -> None:
    on(servers, "a", *(f"a{n}" for n in range(5)))
    on(servers, "b", *(f"b{n}" for n in range(5)))
    assert len(list(queue.find(state=TaskState.ENQUEUED))) == 10
    found = [each.id for each in queue.find(state=TaskState.ENQUEUED, limit=7)]
    assert found == ["a0", "a1", "a2", "a3", "a4", "b0", "b1"]


def test_task_is_found_while_the_other_server_is_away_and_not_denied_where_it_may_be(
    servers: QueueServers, down: str, up: str
) -> None:
    on(servers, up, "here")
    on(servers, down, "there")
    assert (queue.get("here") or pytest.fail("gone")).server == up
    queue.move("here", 7e9)
    for change in (lambda: queue.get("there"), lambda: queue.move("there", 1.0), lambda: queue.delete("never")):
        with pytest.raises(QueueServerDown):
            change()
    assert servers[down].stats([QUEUE])[0].active == 1


@pytest.mark.parametrize("place", BOTH)
def test_result_is_had_from_the_server_that_has_it(servers: QueueServers, place: str) -> None:
    on(servers, place, "x")
    slot = Holder(servers[place], "s", QUEUE)
    slot.work()
    slot.settle({1: Outcome("done")}, results={1: kept("x", HANDLER, "s", "value", 60.0)})
    assert Task("x", QUEUE, HANDLER).result(timeout=0) == "value"
    assert (queue.get("x") or pytest.fail("gone")).server == place


def test_result_is_had_while_the_other_server_is_away(servers: QueueServers, down: str, up: str) -> None:
    on(servers, up, "x")
    slot = Holder(servers[up], "s", QUEUE)
    slot.work()
    slot.settle({1: Outcome("done")}, results={1: kept("x", HANDLER, "s", "value", 60.0)})
    assert Task("x", QUEUE, HANDLER).result(timeout=0) == "value"
    with pytest.raises(QueueServerDown):
        Task("on " + down, QUEUE, HANDLER).result(timeout=0)


def test_counts_and_gates_are_those_of_all_servers(servers: QueueServers) -> None:
    on(servers, "a", "a1", "a2", collection="c")
    on(servers, "b", "b1", when="+9000000000")
    Holder(servers["a"], "s", QUEUE).work(1)
    queue.pause("c")
    now = queue.stats()
    assert (now.active, now.inactive, now.locked, now.put, now.tasks) == (1, 1, 1, 3, 3)
    assert now.gates == ("collection:c",)


def test_buried_tasks_of_all_servers_are_kicked_up_to_the_count(servers: QueueServers) -> None:
    for place in BOTH:
        on(servers, place, *(f"{place}{n}" for n in range(5)))
        for n in range(5):
            queue.bury(f"{place}{n}")
    assert (queue.kick(count=7), queue.stats().buried, active(servers, "a"), active(servers, "b")) == (7, 3, 5, 2)
    assert queue.kick(count=100) == 3


def test_drop_discards_on_all_servers(servers: QueueServers) -> None:
    for place in BOTH:
        on(servers, place, *(f"{place}{n}" for n in range(300)), collection="c")
        on(servers, place, "stays" + place)
    seen: list[tuple[int, int]] = []
    assert queue.drop("c", progress=lambda done, total: seen.append((done, total))) == 600
    assert seen[-1] == (602, 602)
    assert {each.id for each in queue.find()} == {"staysa", "staysb"}


def test_nothing_is_dropped_while_a_server_is_away(servers: QueueServers, down: str, up: str) -> None:
    on(servers, up, "x")
    with pytest.raises(QueueServerDown):
        queue.drop()
    assert (active(servers, up), active(servers, down)) == (1, 0)


GATES = [{}, {"collection": "c"}, {"handler": HANDLER}]


@pytest.mark.parametrize("gate", GATES, ids=["queue", "collection", "handler"])
def test_server_that_was_away_learns_what_was_paused_and_resumed_meanwhile(
    servers: QueueServers, down: str, monkeypatch: pytest.MonkeyPatch, gate: dict[str, str]
) -> None:
    on(servers, down, "x", collection="c")
    half = client.current()
    assert isinstance(half, QueueServers)

    def taken(name: str) -> list[str]:
        found: list[str] = []
        slot = Holder(servers[down], name, QUEUE)
        while (answer := slot.take()).pack is not None or not answer.wait:
            found += slot.keep(answer)
        return found

    queue.pause(**gate)
    assert servers[down].stats([QUEUE])[0].gates == ()
    gates.level(servers, QUEUE)
    assert servers[down].stats([QUEUE])[0].gates == queue_gates(servers)
    assert taken("s") == []
    queue.resume(**gate)
    gates.level(servers, QUEUE)
    assert taken("t") == ["x"]
    monkeypatch.setattr(client, "_current", servers)
    assert queue.stats().gates == ()


@pytest.mark.parametrize("first", BOTH)
def test_server_that_was_away_learns_why_a_handler_is_parked(servers: QueueServers, first: str) -> None:
    gates.park(servers[first], QUEUE, HANDLER, "nothing fits")
    gates.level(servers, QUEUE)
    assert queue_gates(servers) == (f"handler:{HANDLER}",)
    assert len({servers[place].stats([QUEUE])[0].reasons[f"handler:{HANDLER}"] for place in BOTH}) == 1
    assert queue.stats().reasons[f"handler:{HANDLER}"].startswith("nothing fits; ")


def test_gates_that_cannot_be_understood_are_an_error_that_names_the_server(servers: QueueServers) -> None:
    servers["b"].redis.hset(servers["b"].keys_of(QUEUE).part("gates"), "version", "x")
    with pytest.raises(QueueServerError, match=f"the gates of queue {QUEUE} cannot be understood") as told:
        gates.level(servers, QUEUE)
    assert servers.urls["b"] in str(told.value)


def queue_gates(servers: QueueServers) -> tuple[str, ...]:
    """What all servers say alike."""
    said = {servers[place].stats([QUEUE])[0].gates for place in BOTH}
    assert len(said) == 1
    return said.pop()


def test_newer_change_wins_though_the_server_had_missed_several_before(
    servers: QueueServers, down: str, up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):  # it misses these, and nothing differs in the end
        queue.pause()
        queue.resume()
    gates.level(servers, QUEUE)
    other = connected(monkeypatch, **(servers.urls | {up: servers.urls[up] + ".away"}))
    queue.pause()
    gates.level(servers, QUEUE)
    assert queue_gates(servers) == ("queue:",)
    assert servers[down].stats([QUEUE])[0].paused
    other.close()


def test_gate_is_not_closed_when_no_server_answers(servers: QueueServers, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(monkeypatch, servers.urls["a"] + ".away", servers.urls["b"] + ".away")
    with pytest.raises(QueueServerDown):
        queue.pause()
    with pytest.raises(QueueServerDown):
        queue.take().__enter__()


def test_consumer_takes_from_whichever_server_has_something_and_leaves_no_trace(servers: QueueServers) -> None:
    on(servers, "b", "b1")
    with queue.take() as tasks:
        assert [each.id for each in tasks] == ["b1"]
    on(servers, "a", "a1")
    with queue.take() as tasks:
        assert [each.id for each in tasks] == ["a1"]
    with queue.take() as tasks:
        assert tasks == []
    for place in BOTH:
        keys = servers[place].keys_of(QUEUE)
        assert all(each.startswith(b"dead") for each in servers[place].redis.hvals(keys.part("holders")))
        assert not servers[place].redis.exists(keys.part("waiters"), keys.part("locks"))
    assert queue.stats().done == 2


@pytest.mark.parametrize("place", BOTH)
def test_consumer_wakes_for_a_task_whose_time_comes_on_any_server(servers: QueueServers, place: str) -> None:
    on(servers, place, "x", when="+50000")
    began = time.monotonic()
    with queue.take(timeout=20) as tasks:
        assert [each.id for each in tasks] == ["x"]
    assert time.monotonic() - began < 1.5  # it looks again by itself after 3 s


def test_consumer_takes_while_the_other_server_is_away(servers: QueueServers, down: str, up: str) -> None:
    on(servers, up, "x")
    on(servers, down, "y")
    with queue.take(2) as tasks:
        assert [each.id for each in tasks] == ["x"]
    with queue.take(2) as tasks:
        assert tasks == []


def test_consumer_gives_back_what_it_never_saw(
    servers: QueueServers, second: RedisServer, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(there: QueueServer, *args: Any, **how: Any) -> Exchange:
        line.loses = there.url == line.url
        try:
            return exchange(there, *args, **how)
        finally:
            line.loses = False

    exchange = QueueServer.exchange
    line = DeafLine(folder, servers.urls["a"].removeprefix("unix://"))
    lossy = QueueServers({"a": line.url, "b": second.url}, {QUEUE: BOTH}, name="test", timeout=1.0)
    lossy["a"].version()
    Holder(servers["a"], "s", queue=QUEUE).take()  # now the server knows the script
    on(servers, "a", "a1")
    on(servers, "b", "b1")
    monkeypatch.setattr(client, "_current", lossy)
    monkeypatch.setattr(QueueServer, "exchange", ask)
    try:
        with queue.take() as tasks:
            assert [each.id for each in tasks] == ["b1"]
            assert servers["a"].stats([QUEUE])[0].locked == 1
    finally:
        lossy.close()
        line.close()
    assert (active(servers, "a"), servers["a"].stats([QUEUE])[0].locked) == (1, 0)
