"""Several queue servers as the manager and the admin command see them: sums, and one of them away."""

import json
import logging
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from click.testing import CliRunner, Result
from support.holder import Holder, put, resume_long_ago
from support.servers import RedisServer

import qslots.client
from qmanager.admin import cli as admin
from qmanager.admin import queueviews
from qmanager.collect import LONGEST_PAUSE, Collector
from qmanager.strays import EVERY, StrayWatch
from qslots import gates, keys
from qslots.errors import QueueServerDown
from qslots.keys import QueueKeys
from qslots.reports import Plan, QueueDeclared, QueuePlan, pack
from qslots.servers import QueueServers

PLACES = {"spread": ("main", "b"), "far": ("b",)}
PATIENCE = 1.0  # s for one answer
QUEUES = {name: QueueDeclared(name, lock=30.0) for name in ("near", "spread", "far")}


@pytest.fixture
def servers(running: dict[str, RedisServer]) -> Iterator[QueueServers]:
    found = QueueServers({name: each.url for name, each in running.items()}, PLACES, name="test", timeout=PATIENCE)
    yield found
    found.close()


def fill(servers: QueueServers) -> None:
    put(servers["main"], "n1", queue="near")
    put(servers["main"], "m1", "m2", queue="spread")
    put(servers["b"], "b1", "b2", "b3", queue="spread")
    put(servers["b"], "f1", queue="far")


def hold(server: RedisServer, number: int) -> None:
    """SIGSTOP: it does not answer and forgets nothing. SIGCONT: it goes on."""
    assert server.process is not None
    server.process.send_signal(number)


def test_a_queue_on_several_servers_is_counted_as_one(servers: QueueServers) -> None:
    fill(servers)
    found = Collector(servers).collect(QUEUES, 0.0)
    assert {name: each.active for name, each in found.items()} == {"near": 1, "spread": 5, "far": 1}
    assert found["spread"].put == 5
    assert len({each.now for each in found.values()}) == 1, "one clock"


def test_counts_of_a_server_that_is_away_stay_and_it_is_logged_once(
    servers: QueueServers, running: dict[str, RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    fill(servers)
    collector = Collector(servers)
    before = collector.collect(QUEUES, 0.0)
    running["b"].stop(keep=True)
    put(servers["main"], "m3", queue="spread")
    with caplog.at_level(logging.INFO, "qmanager"):
        for now in (1.0, 2.0, 4.0):
            after = collector.collect(QUEUES, now)
    assert {name: each.active for name, each in after.items()} == {"near": 1, "spread": 6, "far": 1}
    assert after["far"].now > before["far"].now
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "what was last counted on b stays" in caplog.text
    running["b"].start()
    put(servers["b"], "f1", "f2", queue="far")
    with caplog.at_level(logging.INFO, "qmanager"):
        back = collector.collect(QUEUES, 4.0 + LONGEST_PAUSE)
    assert {name: each.active for name, each in back.items()} == {"near": 1, "spread": 3, "far": 2}
    assert caplog.messages[-1] == "queue server b answers again"


def test_a_server_that_hangs_is_left_alone_for_longer_and_longer(
    servers: QueueServers, running: dict[str, RedisServer]
) -> None:
    fill(servers)
    collector = Collector(servers)
    collector.collect(QUEUES, 0.0)
    hold(running["b"], signal.SIGSTOP)
    collector.collect(QUEUES, 10.0)
    hold(running["b"], signal.SIGCONT)
    servers["b"].redis.flushall()
    assert collector.collect(QUEUES, 10.9)["far"].active == 1, "not asked yet"
    assert collector.collect(QUEUES, 11.0)["far"].active == 0


def test_a_server_that_answers_late_brings_its_tasks_but_no_rush(
    servers: QueueServers, running: dict[str, RedisServer]
) -> None:
    fill(servers)
    Holder(servers["b"], "s", queue="spread").work()
    collector = Collector(servers)
    hold(running["b"], signal.SIGSTOP)
    alone = collector.collect(QUEUES, 0.0)
    assert alone.keys() == {"near", "spread"}, "nothing is known of a queue that lives there only"
    assert (alone["spread"].active, alone["spread"].put) == (2, 2)
    hold(running["b"], signal.SIGCONT)
    both = collector.collect(QUEUES, 1.0)
    assert (both["spread"].active, both["spread"].locked, both["spread"].taken) == (2, 3, 0)
    assert both["far"].put == 1


def test_a_queue_that_can_be_counted_nowhere_has_no_counts_instead_of_old_ones(servers: QueueServers) -> None:
    fill(servers)
    collector = Collector(servers)
    assert {"near", "spread"} <= collector.collect(QUEUES, 0.0).keys()
    for server, queue in (("main", "near"), ("b", "spread")):
        counters = servers[server].keys_of(queue).part("counters")
        servers[server].redis.delete(counters)
        servers[server].redis.set(counters, "x")
    found = collector.collect(QUEUES, 1.0)
    assert "near" not in found and "spread" in found, "that is counted on main as well"


def test_without_the_first_server_nothing_is_collected(servers: QueueServers, running: dict[str, RedisServer]) -> None:
    fill(servers)
    collector = Collector(servers)
    collector.collect(QUEUES, 0.0)
    running["main"].stop(keep=True)
    with pytest.raises(QueueServerDown):
        collector.collect(QUEUES, 1.0)
    with pytest.raises(QueueServerDown):
        collector.collect({"far": QUEUES["far"]}, 2.0)


def test_a_server_that_comes_back_is_told_of_what_was_paused_meanwhile(
    servers: QueueServers, running: dict[str, RedisServer]
) -> None:
    fill(servers)
    collector = Collector(servers)
    assert collector.collect(QUEUES, 0.0)["spread"].takeable == 5
    hold(running["b"], signal.SIGSTOP)
    gates.close(servers, "spread", "queue:")
    half = collector.collect(QUEUES, 1.0)["spread"]
    assert (half.paused, half.takeable) == (True, 3), "what was last counted on b stays"
    hold(running["b"], signal.SIGCONT)
    collector.collect(QUEUES, 2.0)
    assert servers["b"].stats(["spread"])[0].paused
    assert collector.collect(QUEUES, 3.0)["spread"].takeable == 0


def test_locks_past_their_time_are_taken_back_in_the_same_cycle(servers: QueueServers) -> None:
    fill(servers)
    holder = Holder(servers["b"], "gone", queue="far")
    assert holder.work() == ["f1"]
    resume_long_ago(servers["b"])
    locks = servers["b"].keys_of("far").base + "locks"
    for lock in servers["b"].redis.zrange(locks, 0, -1):
        servers["b"].redis.zadd(locks, {lock: 1.0})
    collector = Collector(servers)
    assert collector.collect(QUEUES, 0.0)["far"].expired == 1
    after = collector.collect(QUEUES, 1.0)["far"]
    assert (after.expired, after.active, after.locked) == (0, 1, 0)


def test_damaged_gates_of_one_queue_stop_no_other(servers: QueueServers) -> None:
    fill(servers)
    servers["b"].redis.hset(servers["b"].keys_of("spread").part("gates"), "version", "x")
    found = Collector(servers).collect(QUEUES, 0.0)
    assert {name: each.active for name, each in found.items()} == {"near": 1, "spread": 5, "far": 1}


# The commands


@pytest.fixture(autouse=True)
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands connect the library to is forgotten afterwards."""
    monkeypatch.setattr(qslots.client, "_current", None)


@pytest.fixture
def file(tmp_path: pathlib.Path, running: dict[str, RedisServer]) -> str:
    listed = ", ".join(f"{name}: '{each.url}?socket_timeout={PATIENCE}'" for name, each in running.items())
    path = tmp_path / "qslots.yml"
    path.write_text(f"queue_servers: {{{listed}}}\nqueues:\n  spread: {{queue_server: [main, b]}}\n"
                    "  far: {queue_server: b}\n")  # fmt: skip
    return str(path)


def run(*args: str) -> Result:
    return CliRunner().invoke(admin.main, args)


def counts(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    return {queue["name"]: queue["active"] for queue in json.loads(result.stdout)}


def test_queues_and_one_queue_are_shown_from_all_their_servers(servers: QueueServers, file: str) -> None:
    fill(servers)
    assert counts(run("queues", "--json", "-c", file)) == {"far": 1, "near": 1, "spread": 5}
    one = json.loads(run("queue", "show", "spread", "--json", "-c", file).stdout)
    assert [(each["name"], each["active"]) for each in one["servers"]] == [("main", 2), ("b", 3)]
    assert (one["counters"]["put"], one["handlers"]) == (5, ["h"])


def test_a_server_that_is_away_is_told_in_one_note_and_the_rest_is_shown(
    servers: QueueServers, running: dict[str, RedisServer], file: str
) -> None:
    fill(servers)
    numbers = QueuePlan("far", 80, 1, None, 2.5, 2.0, 1.25, 30.0, 31.0, 0.05, "?")
    servers.control.redis.set(keys.PLAN, pack(Plan(7, 3, "m", time.time(), (numbers,))))
    running["b"].stop(keep=True)
    result = run("queues", "--json", "-c", file)
    assert counts(result) == {"far": None, "near": 1, "spread": 2}
    assert result.stderr.startswith("qslots: what is on b is not shown: queue server b (unix://")
    assert result.stderr.count("\n") == 1
    assert "·" in run("queues", "-c", file).stdout
    one = run("queue", "show", "spread", "-c", file)
    assert (one.exit_code, one.stderr.count("\n")) == (0, 1)
    assert "does not answer" in one.stdout
    assert run("servers", "-c", file).stderr == "", "what lives on the first one needs no other"


def test_the_url_of_the_command_line_stands_for_the_first_server_only(
    servers: QueueServers, running: dict[str, RedisServer], file: str
) -> None:
    put(servers["b"], "f1", queue="far")
    running["main"].stop(keep=True)
    third = RedisServer(running["b"].binary)
    try:
        assert counts(run("queues", "--json", "-c", file, "--redis", third.url)) == {"far": 1}
    finally:
        third.stop()


def test_a_task_is_found_while_another_server_is_away_and_not_denied_where_it_may_be(
    servers: QueueServers, running: dict[str, RedisServer], file: str
) -> None:
    fill(servers)
    running["b"].stop(keep=True)
    found = run("task", "find", "--json", "-c", file)
    assert sorted(task["id"] for task in json.loads(found.stdout)) == ["m1", "m2", "n1"]
    assert (found.exit_code, found.stderr.count("\n"), "on b" in found.stderr) == (0, 1, True)
    assert run("task", "show", "n1", "-c", file).exit_code == 0
    for wanted in (("b1",), ("b1", "--queue", "spread")):
        missing = run("task", "show", *wanted, "-c", file)
        assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
        assert "task b1 is not among those that can be seen" in missing.stderr
    assert run("task", "find", "--queue", "spread", "-c", file).exit_code == 1


def test_the_first_server_away_is_an_error_of_one_line(running: dict[str, RedisServer], file: str) -> None:
    running["main"].stop(keep=True)
    result = run("queues", "-c", file)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


def test_names_that_tab_offers_come_from_all_servers(servers: QueueServers) -> None:
    fill(servers)
    assert queueviews.queue_names(servers).document == ["far", "near", "spread"]


def test_tasks_where_their_queue_does_not_live_are_told_of(servers: QueueServers, file: str) -> None:
    fill(servers)
    put(servers["main"], "lost1", "lost2", queue="far")
    put(servers["b"], "lost3", queue="near")
    result = run("queues", "--json", "-c", file)
    assert counts(result) == {"far": 1, "near": 1, "spread": 5}
    far, near = sorted(result.stderr.splitlines(), reverse=True)
    assert far.startswith("qslots: 2 tasks of queue far on main, where it does not live")
    assert far.endswith("queues.far.queue_server: [b, main] lets slots drain them")
    assert "1 task of queue near on b" in near
    assert run("queue", "show", "far", "-c", file).stderr.splitlines() == [far]
    assert run("queue", "show", "spread", "-c", file).stderr == ""


def test_a_queue_of_which_all_tasks_are_elsewhere_is_shown_all_the_same(servers: QueueServers, file: str) -> None:
    put(servers["main"], "lost", queue="far")
    result = run("queues", "--json", "-c", file)
    assert (counts(result), "1 task of queue far on main" in result.stderr) == ({"far": 0}, True)


def test_the_manager_tells_of_strays_once_and_asks_nobody_who_is_away(
    servers: QueueServers, running: dict[str, RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    fill(servers)
    put(servers["main"], "lost", queue="far")
    watch = StrayWatch(servers)
    hold(running["b"], signal.SIGSTOP)
    for turn in range(3):
        watch.look({"b"}, 1.0 + turn * EVERY)
    hold(running["b"], signal.SIGCONT)
    watch.look((), 1.0 + 3 * EVERY)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "1 task of queue far on main, where it does not live" in caplog.text


@pytest.mark.parametrize("damage", [
    lambda client: client.rpush(QueueKeys("bad").handlers, "x"),  # refused: of another type
    lambda client: client.sadd(QueueKeys("bad").handlers, b"\xff"),
    lambda client: client.hset(QueueKeys("bad").part("counters"), "done", "many"),
])  # fmt: skip
def test_a_queue_that_cannot_be_counted_hides_no_other_stray(
    servers: QueueServers, damage: Callable[[redis.Redis], object], caplog: pytest.LogCaptureFixture
) -> None:
    put(servers["main"], "lost", queue="far")
    servers["b"].redis.sadd(keys.QUEUES, "bad")
    put(servers["b"], "astray", queue="near")
    damage(servers["b"].redis)
    StrayWatch(servers).look((), 1.0)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(",")[0] for line in told] == ["1 task of queue far on main", "1 task of queue near on b"]


def test_names_of_queues_that_are_none_cost_no_cycle(servers: QueueServers) -> None:
    servers["b"].redis.sadd(keys.QUEUES, b"\xff")
    StrayWatch(servers).look((), 1.0)


def test_the_map_says_which_counts_are_not_beside_it(
    servers: QueueServers, running: dict[str, RedisServer], file: str
) -> None:
    fill(servers)
    running["b"].stop(keep=True)
    result = run("map", "-c", file)
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert "what is on b is not shown" in result.stderr


def test_a_drop_with_a_server_away_says_where_it_was_done_and_where_not(
    servers: QueueServers, running: dict[str, RedisServer], file: str
) -> None:
    fill(servers)
    running["b"].stop(keep=True)
    result = run("queue", "drop", "spread", "--yes", "-c", file)
    assert (result.exit_code, result.stdout) == (1, "queue spread: 2 tasks dropped on main\n")
    assert result.stderr.startswith(
        "qslots: queue spread: not dropped on b, do it again when it answers: queue server "
    )
    assert result.stderr.count("\n") == 1
    nowhere = run("queue", "drop", "far", "--yes", "-c", file)
    assert (nowhere.exit_code, nowhere.stdout, nowhere.stderr.count("\n")) == (1, "", 1)
    assert nowhere.stderr.startswith("qslots: queue far: nothing was dropped: queue server ")


def test_a_pause_with_a_server_away_is_one_clear_line_beside_the_answer(
    servers: QueueServers, running: dict[str, RedisServer], file: str
) -> None:
    fill(servers)
    running["b"].stop(keep=True)
    result = run("queue", "pause", "spread", "-c", file)
    assert (result.exit_code, result.stdout) == (0, "queue spread is paused\n")
    assert result.stderr.startswith("qslots: queue spread is changed on main, and elsewhere once it answers again: ")
    assert result.stderr.count("\n") == 1
    assert run("queue", "pause", "spread", "--handler", "new", "-c", file).exit_code == 0, "b may have it"
