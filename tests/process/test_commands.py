"""A real manager over a real master: its map is followed, and the reading commands print what is promised."""

import json
import signal
from typing import Any

import msgspec
from process.fleet import SERVER, START, Fleet, lives
from support.waiting import wait_for

from qslots import embedded
from qslots.queueserver import QueueServer
from qslots.records import formed, header

WORK = """\
@task(min_slots=1, max_slots=1)
def work(n: int) -> None:
    note("begin", n)
    gate("open")
    note("end", n)


@task
def other(n: int) -> None:
    note("other", n)
"""
SLOT = {"server", "index", "pid", "generation", "state", "queues", "task", "task_age", "done", "pss", "private"}
QUEUE = {
    "name", "priority", "min", "wanted", "granted", "max", "load", "active", "inactive", "locked", "buried", "oldest",
    "rate", "mean_time", "reason", "parked", "takeable", "paused", "gates",
}  # fmt: skip
SERVER_KEYS = {"name", "budget", "slots", "max_slots", "pss", "free_memory", "generation", "age"}

OLDER = """\
@task(queue="mail")
def send(n: int) -> None:
    note("send", n)


"""
NEWER = """\
@task(queue="mail")
def bounce(n: int) -> None:
    note("bounce", n)
"""


def read(fleet: Fleet, *command: str) -> Any:
    program = fleet.start("qmanager.admin", *command, "--json")
    assert program.ended() == 0, program.said()
    return json.loads(program.out.read_text())


def say(fleet: Fleet, *command: str) -> str:
    """The one line that a command prints."""
    program = fleet.start("qmanager.admin", *command)
    assert program.ended() == 0, program.said()
    return program.out.read_text().strip()


def test_the_reading_commands_print_what_is_promised_while_a_task_runs(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    manager, master = fleet.start("qmanager", "run"), fleet.start_master()
    task = fleet.app.work.enqueue(1).id
    [run] = fleet.wait_run("begin", 1)
    fleet.app.other.enqueue(1)
    fleet.wait_run("other", 1)

    def reported() -> bool:
        return any(slot["task"] == task for slot in read(fleet, "slots"))

    wait_for(reported, "the task to be reported")
    slots = read(fleet, "slots")
    assert all(slot.keys() >= SLOT for slot in slots)
    [busy] = [slot for slot in slots if slot["task"]]
    assert (busy["pid"], busy["server"], busy["state"], busy["queues"]) == (run.pid, SERVER, "busy", ["work"])
    assert busy["task_age"] > 0

    [server] = read(fleet, "servers")
    assert server.keys() >= SERVER_KEYS
    assert (server["name"], server["slots"], server["generation"]) == (SERVER, len(slots), 1)
    assert 0 < server["pss"] < server["budget"] and server["free_memory"] > 0

    queues = {queue["name"]: queue for queue in read(fleet, "queues")}
    assert queues.keys() == {"work", "other"}
    assert all(queue.keys() >= QUEUE for queue in queues.values())
    assert (queues["work"]["locked"], queues["work"]["min"], queues["work"]["max"]) == (1, 1, 1)

    slot_map = read(fleet, "map")
    assert slot_map.keys() >= {"epoch", "published", "servers"}
    assert {slot["index"]: slot["queues"] for slot in slot_map["servers"][SERVER]} == {
        slot["index"]: slot["queues"] for slot in slots
    }
    fleet.open()
    fleet.wait_empty()
    for program in (master, manager):
        program.signal(signal.SIGTERM)
        assert program.ended() == 0


def test_no_slot_notices_that_the_manager_was_killed(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    fleet.open()
    manager = fleet.start("qmanager", "run")
    fleet.start_master()
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1)
    before = {slot["index"]: slot["pid"] for slot in fleet.live()}
    manager.signal(signal.SIGKILL)
    manager.ended()
    fleet.app.work.enqueue(2)
    fleet.wait_run("end", 2)
    fleet.start("qmanager", "run", "--take-over")
    fleet.app.work.enqueue(3)
    fleet.wait_run("end", 3)
    assert {slot["index"]: slot["pid"] for slot in fleet.live()}.items() >= before.items()


def test_a_second_manager_is_refused_and_a_taking_over_one_deposes_the_first(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    first = fleet.start("qmanager", "run")
    fleet.start_master()
    fleet.app.other.enqueue(1)
    fleet.wait_run("other", 1)
    elsewhere = {"QSLOTS_MANAGER_RUNTIME_DIR": str(fleet.folder / "elsewhere")}
    second = fleet.start("qmanager", "run", environ=elsewhere)
    assert second.ended() == 1
    [line] = second.err.read_text().splitlines()
    assert f"/{first.pid} reigned a moment ago: stop it, follow it with --standby, or use --take-over" in line
    third = fleet.start("qmanager", "run", "--take-over", environ=elsewhere)
    assert first.ended() == 1
    fleet.app.other.enqueue(2)
    fleet.wait_run("other", 2, within=5.0)
    assert third.process.poll() is None


def test_every_reading_command_says_in_one_line_that_the_queue_server_is_away(bare_fleet: Fleet) -> None:
    for command in ("map", "queues", "servers", "slots"):
        program = bare_fleet.start("qmanager.admin", command, "--json", "--redis", "redis://127.0.0.1:1")
        assert program.ended() == 1
        [line] = program.err.read_text().splitlines()
        assert "does not answer" in line
        assert program.out.read_text() == ""


def test_a_queue_on_another_queue_server_is_planned_for(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    assert fleet.redis is not None
    other = embedded.start(fleet.folder / "b", lambda _: None)
    client = QueueServer(other.url, name="test")
    try:
        (fleet.folder / "q.yml").write_text(
            f"queue_servers: {{main: '{fleet.redis.url}', b: '{other.url}'}}\n"
            "queues: {other: {queue_server: b}, wrok: {priority: 3}}\n"
        )
        fleet.environ["QSLOTS_CONFIG"] = str(fleet.folder / "q.yml")
        manager = fleet.start("qmanager", "run")
        for program in (manager, fleet.start_master()):
            assert program.process.poll() is None
        bodies = [formed(msgspec.msgpack.encode({"n": n})) for n in range(20)]
        client.put("other", "other", header("other", 0), [f"t{n}" for n in range(20)], bodies)

        def counted() -> bool:
            found = read(fleet, "queue", "show", "other")
            return bool(found["wanted"] or found["counters"]["done"])

        wait_for(counted, lambda: f"its tasks to be counted: {fleet.all_said()}")
        shown = read(fleet, "queue", "show", "other")
        assert [(each["name"], each["answers"]) for each in shown["servers"]] == [("b", True)]
        assert shown["counters"]["put"] == 20
        assert "queue wrok, which no application that is loaded declares: did you mean work?" in manager.said()
        other.stop()

        def is_told() -> bool:
            found = {queue["name"]: queue["reason"] for queue in read(fleet, "queues")}
            return str(found["other"]).startswith("no answer from b, where it lives")

        wait_for(is_told, lambda: f"the plan to say who is away: {fleet.all_said()}")
    finally:
        fleet.stop_programs()
        client.close()
        other.stop()


def test_a_paused_queue_begins_nothing_until_it_is_resumed(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    fleet.start("qmanager", "run")
    fleet.start_master()
    fleet.app.other.enqueue(1)
    fleet.wait_run("other", 1)
    assert say(fleet, "queue", "pause", "other") == "queue other is paused"
    fleet.app.other.enqueue(2)

    def is_planned() -> bool:
        [found] = [queue for queue in read(fleet, "queues") if queue["name"] == "other"]
        return bool(found["active"] == 1 and found["wanted"] == 0 and found["reason"].startswith("paused"))

    wait_for(is_planned, lambda: f"the plan to say that it is paused; {fleet.all_said()}")
    assert not fleet.runs("other", 2)
    assert say(fleet, "queue", "resume", "other") == "queue other goes on"
    fleet.wait_run("other", 2)


def test_a_buried_task_is_found_repaired_and_run_again(fleet: Fleet) -> None:
    fleet.write_app("@task(max_failures=1)\ndef work(n: int) -> None:\n    note('end', 10 // n)\n")
    fleet.start("qmanager", "run")
    fleet.start_master()
    task = fleet.app.work.enqueue(0).id
    wait_for(lambda: task in fleet.buried(), lambda: f"it to be buried; {fleet.all_said()}", START)
    [found] = read(fleet, "task", "find", "--state", "fatal_failure")
    assert (found["id"], found["kwargs"], found["failures"]) == (task, {"n": 0}, 1)
    assert "ZeroDivisionError" in found["last_error"]
    assert say(fleet, "task", "update", task, "n=2") == f"task {task} of queue work has n changed"
    assert say(fleet, "task", "kick", task) == "1 kicked"
    fleet.wait_run("end", 5)
    fleet.wait_empty()


def test_drop_empties_a_queue_but_for_the_task_that_runs(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    fleet.start("qmanager", "run")
    fleet.start_master()
    fleet.app.work.enqueue_many([(n,) for n in range(100)])
    fleet.wait_run("begin", count=1)
    assert say(fleet, "queue", "drop", "work", "--yes").endswith(" dropped")
    fleet.open()
    fleet.wait_empty()
    assert len(fleet.runs("begin")) == 1


def test_tasks_of_a_producer_that_is_newer_than_the_fleet_wait_for_the_generation_that_knows_them(fleet: Fleet) -> None:
    fleet.write_app(OLDER)
    fleet.start("qmanager", "run")
    master = fleet.start_master()
    fleet.app.send.enqueue(0)
    fleet.wait_run("send", 0)
    fleet.write_app(OLDER + NEWER)  # the fleet has loaded the older one
    fleet.app.bounce.enqueue_many([(n,) for n in range(12)])
    fleet.app.send.enqueue(1)
    fleet.wait_run("send", 1)

    def mail() -> dict[str, Any]:
        [found] = read(fleet, "queues")
        return dict(found)

    told = wait_for(lambda: row if "no server knows" in (row := mail())["reason"] else None, fleet.all_said)
    assert "12 tasks of handler bounce wait, no server knows it" in told["reason"]
    assert told["unserved"] == {"bounce": 12}
    assert told["wanted"] < 0.1  # for what has run
    stats = fleet.stats("mail")
    assert (stats.active, stats.taken, stats.done, stats.failed, stats.buried) == (12, 2, 2, 0, 0)
    master.signal(signal.SIGTERM)
    assert master.ended() == 0
    fleet.start_master()
    fleet.wait_run("bounce", count=12)
    fleet.wait_empty("mail")
    assert sorted(int(run.words[1]) for run in fleet.runs("bounce")) == list(range(12))
    assert (fleet.stats("mail").failed, fleet.fates("mail"), mail()["unserved"]) == (0, {}, {})


def test_a_server_is_drained_from_anywhere_also_after_a_restart_until_it_is_taken_back(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    fleet.open()
    fleet.start("qmanager", "run")
    master = fleet.start_master()
    fleet.app.other.enqueue(1)
    fleet.wait_run("other", 1)
    assert say(fleet, "server", "drain", SERVER).startswith(f"server {SERVER} is to drain: ")
    wait_for(lambda: not fleet.status()["slots"], fleet.all_said, START)
    wait_for(lambda: read(fleet, "servers")[0]["draining"], fleet.all_said, START)
    undrain = fleet.start("qmaster", "undrain")
    assert undrain.ended(START) == 1
    assert "the cluster's order stands" in undrain.said()
    master.signal(signal.SIGTERM)
    assert master.ended(START) == 0
    fleet.start_master()
    wait_for(lambda: fleet.status().get("draining"), fleet.all_said, START)
    fleet.app.other.enqueue(2)
    assert say(fleet, "server", "undrain", SERVER) == f"server {SERVER} is in the fleet again"
    fleet.wait_run("other", 2)


def test_a_slot_is_recycled_from_anywhere(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",), ("work",))
    wait_for(lambda: len(read(fleet, "slots")) == 2, fleet.all_said, START)
    before = {slot["index"]: slot["pid"] for slot in fleet.live()}
    assert say(fleet, "slot", "recycle", SERVER, "1") == f"recycled after their task on {SERVER}: 1"
    wait_for(lambda: not lives(before[1]), fleet.all_said, START)
    fleet.slots(2)
    assert (fleet.pid_of(0), fleet.pid_of(1) != before[1]) == (before[0], True)
    wrong = fleet.start("qmanager.admin", "slot", "recycle", SERVER, "9")
    assert wrong.ended(START) == 1
    assert wrong.said() == f"qslots: server {SERVER} has no slot 9; there are: 0, 1\n"
    stranger = fleet.start("qmanager.admin", "server", "drain", "nobody")
    assert stranger.ended(START) == 1
    assert stranger.said() == f"qslots: no server nobody reports: known here: {SERVER}\n"
