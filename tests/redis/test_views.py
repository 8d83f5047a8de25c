"""The documents of ``--json`` from records that stand in a real queue server, read by the real command."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from qmanager.admin import cli as admin
from qmanager.admin import queueviews, views
from qmanager.published import clock
from qslots import embedded, keys
from qslots.queueserver import QueueServer
from qslots.reports import MapRow, Plan, QueuePlan, Report, SlotReport, pack
from qslots.servers import QueueServers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Embedded]:
    with embedded.start(tmp_path_factory.mktemp("r") / "r", lambda _: None) as running:
        yield running


@pytest.fixture
def client(server: embedded.Embedded) -> Iterator[QueueServer]:
    found = QueueServer(server.url, name="test")
    found.redis.flushall()
    yield found
    found.close()


def only(client: QueueServer) -> QueueServers:
    return QueueServers({"main": client.url}, {}, name="test")


def qslots(client: QueueServer, *args: str) -> Result:
    return CliRunner().invoke(admin.main, [*args, "--redis", client.url])


def document(client: QueueServer, command: str) -> Any:
    result = qslots(client, command, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def report(name: str, *slots: SlotReport) -> Report:
    return Report(
        server=name, incarnation="i", host="h", pid=41, generation=2, declared="", budget=4000, max_slots=8, pss=300,
        free_memory=500, slot_size=10, slot_sizes={}, epoch=7, seq=1, slots=slots,
    )  # fmt: skip


def publish(client: QueueServer, *reports: Report, age: float = 0.0) -> None:
    at = (clock(client) - age) * 1e6
    for each in reports:
        client.redis.hset(keys.REPORTS, each.server, pack(each))
        client.redis.zadd(keys.SEEN, {each.server: at})


def plan(name: str) -> QueuePlan:
    return QueuePlan(name, 80, 1, None, 2.5, 2.0, 1.25, 30.0, 31.0, 0.05, "memory is full")


def test_an_empty_queue_server_gives_empty_documents_and_says_what_to_start(client: QueueServer) -> None:
    assert document(client, "map") == {"epoch": None, "published": None, "age": None, "servers": {}}
    for command in ("queues", "servers", "slots"):
        assert document(client, command) == []
    for command in ("map", "servers", "slots"):
        assert "`qmaster run` or `qslots up`" in qslots(client, command).stdout


def test_map_lists_the_slots_that_are_to_exist(client: QueueServer) -> None:
    now = int(clock(client)) * 1_000_000 + 500_000
    client.redis.hset(keys.EPOCH, mapping={"epoch": 7, "seq": 3, "manager": "m", "published": now})
    client.redis.hset(keys.MAP, "web-1", pack(MapRow(7, 3, "m", (("mail",), (), ("mail", "index")))))
    client.redis.hset(keys.MAP, "web-0", pack(MapRow(7, 3, "m", ())))
    found = document(client, "map")
    assert 0 <= found.pop("age") < 10
    assert found == {
        "epoch": 7,
        "published": now / 1e6,
        "servers": {
            "web-0": [],
            "web-1": [{"index": 0, "queues": ["mail"]}, {"index": 2, "queues": ["mail", "index"]}],
        },
    }
    assert "epoch 7" in qslots(client, "map").stdout


def test_slots_and_servers_come_from_the_reports(client: QueueServer) -> None:
    busy = SlotReport(1, 91, 2, "busy", ("mail",), "t1", "send", 0.5, 12, 2000, 1000)
    idle = SlotReport(0, 90, 2, "idle", ("mail", "index"))
    publish(client, report("web-1", busy, idle))
    assert document(client, "slots") == [
        {
            "server": "web-1", "index": 0, "pid": 90, "generation": 2, "state": "idle", "queues": ["mail", "index"],
            "handler": None, "task": None, "task_age": None, "done": 0, "pss": None, "private": None,
        },
        {
            "server": "web-1", "index": 1, "pid": 91, "generation": 2, "state": "busy", "queues": ["mail"],
            "handler": "send", "task": "t1", "task_age": 0.5, "done": 12, "pss": 2000, "private": 1000,
        },
    ]  # fmt: skip
    (found,) = views.servers_view(only(client)).document
    assert 0 <= found.pop("age") < 5
    assert found == {
        "name": "web-1", "budget": 4000, "slots": 2, "max_slots": 8, "pss": 300, "free_memory": 500, "generation": 2,
        "draining": False, "my_world_slots": None, "bound": "", "reason": "", "silent": False,
    }  # fmt: skip
    assert "t1" in qslots(client, "slots").stdout


def test_the_age_of_a_server_is_by_the_queue_servers_clock(client: QueueServer) -> None:
    publish(client, report("web-1"), age=90.0)
    client.redis.hset(keys.REPORTS, "never-seen", pack(report("never-seen")))
    ages = {found["name"]: found["age"] for found in views.servers_view(only(client)).document}
    assert ages["never-seen"] is None
    assert 90 <= ages["web-1"] < 95


@pytest.mark.parametrize(("lost_after", "silent"), [(5.0, True), (120.0, False)])
def test_a_server_is_silent_when_a_manager_would_take_it_for_lost(
    client: QueueServer, lost_after: float, silent: bool
) -> None:
    publish(client, report("web-1"), age=90.0)
    servers = QueueServers({"main": client.url}, {}, name="test", lost_after=lost_after)
    assert [found["silent"] for found in views.servers_view(servers).document] == [silent]


def test_queues_join_live_numbers_with_the_plan(client: QueueServer) -> None:
    client.redis.set(keys.PLAN, pack(Plan(7, 3, "m", clock(client) - 2, (plan("mail"), plan("declared")))))
    client.redis.sadd(keys.QUEUES, "mail", "unplanned")
    found = {queue["name"]: queue for queue in queueviews.queues_view(only(client)).document}
    assert list(found) == ["declared", "mail", "unplanned"]
    assert list(found["mail"]) == [
        "name", "priority", "min", "wanted", "granted", "max", "load", "active", "inactive", "locked", "buried",
        "oldest", "rate", "mean_time", "reason", "parked", "takeable", "paused", "gates", "reasons", "unserved",
        "plan_age",
    ]  # fmt: skip
    assert 2 <= found["mail"]["plan_age"] < 10
    assert (found["mail"]["wanted"], found["mail"]["load"], found["mail"]["active"]) == (2.5, 1.25, 0)
    assert (found["unplanned"]["wanted"], found["unplanned"]["reason"]) == (None, queueviews.NO_HANDLER)
    aged = [{**row, "plan_age": None} for row in document(client, "queues")]
    assert aged == [{**row, "plan_age": None} for row in found.values()]
    assert "memory is full" in qslots(client, "queues").stdout


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (("SET", "handlers", "x"), "WRONGTYPE"),
        (("HSET", "counters", "taken", "x"), "invalid literal for int"),
        (("HSET", "counters", "done", "-5"), "counter done is -5"),
        (("HSET", "counters", "busy", "9" * 30), "counter busy is 999"),
        (("HSET", "counters", "took:99999999", "1"), "2 to the power of 99999999"),
        (("HSET", "counters", "pack:tt", "9" * 400), "counter pack:tt is 999"),
    ],
)
def test_a_queue_that_cannot_be_counted_hides_no_other(client: QueueServer, damage: tuple[str, ...], said: str) -> None:
    command, part, *rest = damage
    client.redis.sadd(keys.QUEUES, "sound", "damaged", b"\xff")
    client.redis.execute_command(command, client.keys_of("damaged").part(part), *rest)
    shown = qslots(client, "queues", "--json")
    counted = {queue["name"]: queue["active"] for queue in json.loads(shown.stdout)}
    assert counted == {"\\xff": 0, "damaged": None, "sound": 0}
    assert "queue damaged cannot be counted on main: " in shown.stderr and said in shown.stderr
    one = qslots(client, "queue", "show", "damaged")
    assert one.exit_code == 0 and said in one.stderr


def test_where_no_queue_can_be_counted_one_line_says_so(client: QueueServer) -> None:
    client.redis.sadd(keys.QUEUES, "a", "b")
    for queue in "ab":
        client.redis.set(client.keys_of(queue).part("handlers"), "x")
    shown = qslots(client, "queues")
    assert shown.exit_code == 1
    assert "no queue can be counted on main, the last of them is b: " in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_what_a_manager_that_is_gone_has_published_last_is_shown_with_its_age(client: QueueServer) -> None:
    ago = clock(client) - 200
    client.redis.set(keys.PLAN, pack(Plan(7, 3, "m", ago, (plan("mail"),))))
    client.redis.hset(keys.EPOCH, mapping={"epoch": 7, "seq": 3, "manager": "m", "published": int(ago * 1e6)})
    for command, what in (("queues", "the plan"), ("map", "the slot map")):
        shown = qslots(client, command)
        assert shown.exit_code == 0
        assert f"qslots: {what} is 3m 20s old: no manager has published since" in shown.stderr
    assert 200 <= queueviews.queues_view(only(client)).document[0]["plan_age"] < 210
    assert "3m 20s old: no manager" in qslots(client, "map").stdout


def test_a_report_that_is_believed_in_part_is_shown_and_told_of(client: QueueServer) -> None:
    raw = msgspec.msgpack.encode({**msgspec.to_builtins(report("web-1")), "max_slots": 10**9})
    client.redis.hset(keys.REPORTS, "web-1", raw)
    shown = qslots(client, "servers")
    assert "of the report of web-1 is not believed: max_slots is 1000000000: 4096 counts" in shown.stderr
    assert "4,096" in shown.stdout


def test_records_that_cannot_be_read_are_told_of_and_the_others_shown(client: QueueServer) -> None:
    publish(client, report("good"))
    client.redis.hset(keys.REPORTS, "bad", b"\xc1garbage")
    client.redis.hset(keys.REPORTS, b"\xff", pack(plan("mail")))
    client.redis.hset(keys.MAP, "bad", b"")
    client.redis.hset(keys.EPOCH, mapping={"epoch": "nonsense", "published": "inf"})
    client.redis.set(keys.PLAN, b"\x93")
    servers = qslots(client, "servers", "--json")
    assert [found["name"] for found in json.loads(servers.stdout)] == ["good"]
    assert "left out 2 reports that cannot be read: bad" in servers.stderr
    assert "left out 1 map row" in qslots(client, "map").stderr
    assert "plan cannot be read" in qslots(client, "queues").stderr


def test_a_key_of_another_kind_is_an_error_of_one_line(client: QueueServer) -> None:
    client.redis.set(keys.REPORTS, "a string")
    result = qslots(client, "servers")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "WRONGTYPE" in result.stderr


def test_thousands_of_reports_are_read_in_chunks(client: QueueServer) -> None:
    pipe: redis.client.Pipeline = client.redis.pipeline()
    for n in range(2000):
        pipe.hset(keys.REPORTS, f"web-{n}", pack(report(f"web-{n}")))
        pipe.zadd(keys.SEEN, {f"web-{n}": 1.0})
    pipe.execute()
    client.redis.config_resetstat()
    assert len(views.servers_view(only(client)).document) == 2000
    commands = client.redis.info("commandstats")
    assert isinstance(commands, dict)
    assert "cmdstat_hgetall" not in commands
    assert commands["cmdstat_hscan"]["calls"] >= 2000 / views.CHUNK


def test_a_qmaster_is_loaded_when_its_own_fresh_report_says_so(client: QueueServer) -> None:
    since = clock(client)
    client.redis.set(keys.PLAN, b"")
    publish(client, report("web-1"), age=60.0)
    assert not views.is_loaded(client, 41, since)  # a former life's report, though of the same pid
    publish(client, report("web-1"))
    assert views.is_loaded(client, 41, since)
    assert not views.is_loaded(client, 42, since)
    client.redis.delete(keys.PLAN)
    client.redis.hset(keys.EPOCH, "epoch", 1)  # a manager that reigns and has published nothing yet
    assert not views.is_loaded(client, 41, since)
