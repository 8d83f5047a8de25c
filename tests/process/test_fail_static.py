"""The queue server is away, slow, emptied or another one; the manager is away: the last map stays in force."""

import os
import pathlib
import shutil
import signal

import msgspec
import pytest
from process.fleet import PACK, SERVER, START, Fleet, Program, lives, stands_in_a_pack, titled
from support.waiting import wait_for

from qslots.control import Control
from qslots.embedded import Embedded, prepare
from qslots.errors import QueueServerDown
from qslots.reports import MapRow, Plan

PLAIN = """\
@task(lock="60s")
def work(n: int) -> None:
    note("begin", n)
    if n < 0:
        gate(f"open{n}")
    note("end", n)
"""


def state_file(fleet: Fleet) -> pathlib.Path:
    return fleet.folder / "state" / f"{SERVER}.state"


def wait_saved(fleet: Fleet, slots: int = 1) -> None:
    def is_saved() -> bool:
        try:
            return len(msgspec.json.decode(state_file(fleet).read_bytes())["row"]["slots"]) == slots
        except FileNotFoundError:
            return False

    wait_for(is_saved, lambda: f"the state file; {fleet.all_said()}", START)


def stop_redis(fleet: Fleet) -> Embedded:
    assert fleet.redis is not None and fleet.redis.process is not None
    fleet.client.redis.config_set("appendfsync", "always")
    fleet.redis.process.kill()
    fleet.redis.process.wait()
    return fleet.redis


def start_redis(redis: Embedded) -> None:
    redis.spawn()
    redis.wait_ready(lambda _: None)


def end(master: Program) -> None:
    master.signal(signal.SIGKILL)
    master.ended()


def alone(fleet: Fleet) -> Program:
    """A master that has served one slot, and is gone with its queue server."""
    master = fleet.launch(PLAIN, ("work",))
    wait_saved(fleet)
    end(master)
    return master


def publish(fleet: Fleet, manager: str, epoch: int, *slots: tuple[str, ...]) -> None:
    """A map of another manager, of this epoch."""
    control = Control(fleet.client)
    control.publish(Plan(epoch, 1, manager, 1.0, ()), {SERVER: MapRow(epoch, 1, manager, slots)}, [])


def test_a_master_that_has_served_starts_without_its_queue_server_and_works_when_it_comes(fleet: Fleet) -> None:
    alone(fleet)
    redis = stop_redis(fleet)
    again = fleet.start_master()
    [slot] = fleet.slots(1)
    said = [line for line in again.err.read_text().splitlines() if "starting with the last map, 1 slot" in line]
    assert len(said) == 1 and "queue server" in said[0]
    start_redis(redis)
    wait_for(lambda: SERVER in Control(fleet.client).reports()[0], "a report", START)
    fleet.app.work.enqueue(1)
    assert fleet.wait_run("end", 1)[0].pid == slot["pid"]
    assert state_file(fleet).stat().st_mode & 0o777 == 0o600


def test_the_last_map_is_in_force_after_a_restart_without_a_manager(fleet: Fleet) -> None:
    alone(fleet)
    fleet.client.redis.delete("qs:map")
    fleet.app.work.enqueue(1)
    fleet.start_master()
    fleet.wait_run("end", 1)


def test_a_first_start_without_the_queue_server_ends_with_one_line(fleet: Fleet) -> None:
    fleet.write_app(PLAIN)
    redis = stop_redis(fleet)
    master = fleet.start_master()
    assert master.ended(START) == 1
    [line] = master.err.read_text().splitlines()
    assert line.startswith("qmaster: queue server ")
    start_redis(redis)


def test_a_queue_server_that_refuses_us_ends_also_a_master_that_has_served(fleet: Fleet) -> None:
    alone(fleet)
    fleet.client.redis.config_set("requirepass", "secret")
    again = fleet.start_master()
    assert again.ended(START) == 1
    [line] = again.err.read_text().splitlines()
    assert "Authentication required" in line
    fleet.client.redis.config_set("requirepass", "")


def test_a_name_that_was_taken_meanwhile_ends_a_master_that_had_started_alone(fleet: Fleet) -> None:
    alone(fleet)
    redis = stop_redis(fleet)
    again = fleet.start_master()
    fleet.slots(1)
    start_redis(redis)  # two live when it is back: who comes first has the name
    other = fleet.start_master({"QSLOTS_RUNTIME_DIR": str(fleet.folder / "elsewhere")})
    wait_for(lambda: other.process.poll() is not None or again.process.poll() is not None, "one of them to end", START)
    loser = other if other.process.poll() is not None else again
    assert loser.ended() == 1
    refused, deposed = f"a qmaster of the name {SERVER} is alive elsewhere", "another qmaster has taken the name"
    assert refused in loser.err.read_text() or deposed in loser.err.read_text(), "by what it was doing when it heard"


@pytest.mark.parametrize("content", ["{", '{"server": "another", "queue_server": "x", "row": [1]}', "\0\xff" * 99])
def test_a_state_file_that_cannot_be_used_is_set_aside_in_one_line(fleet: Fleet, content: str) -> None:
    state_file(fleet).parent.mkdir(mode=0o700)
    state_file(fleet).write_text(content)
    master = fleet.launch(PLAIN, ("work",))
    assert state_file(fleet).with_suffix(".state.aside").read_text() == content
    assert len([line for line in master.err.read_text().splitlines() if "state file" in line]) == 1
    wait_saved(fleet)


def test_work_goes_on_where_the_state_cannot_be_written(fleet: Fleet) -> None:
    (state_file(fleet).parent / f"{SERVER}.state.new").mkdir(parents=True)
    state_file(fleet).parent.chmod(0o700)
    master = fleet.launch(PLAIN, ("work",))
    wait_for(lambda: "cannot be written" in master.err.read_text(), "the warning")
    fleet.publish(("work",), ("work",))
    fleet.slots(2)
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1)
    assert master.err.read_text().count("cannot be written") == 1


def test_work_goes_on_without_a_folder_for_the_state(fleet: Fleet) -> None:
    (fleet.folder / "state").write_text("not a folder")
    master = fleet.launch(PLAIN, ("work",))
    assert master.err.read_text().count("a restart without the queue server will not know the map") == 1


def test_an_emptied_queue_server_brings_no_older_map_and_kills_no_idle_slot(fleet: Fleet) -> None:
    fleet.launch(PLAIN, ("work",), ("work",))
    fleet.app.work.enqueue(-1)
    [run] = fleet.wait_run("begin", -1)
    idle = next(slot["pid"] for slot in fleet.live() if slot["pid"] != run.pid)
    wait_saved(fleet, 2)
    known = msgspec.json.decode(state_file(fleet).read_bytes())["row"]["epoch"]
    fleet.client.redis.flushall()
    publish(fleet, "forgetful", 5)
    reports = Control(fleet.client).reports
    wait_for(lambda: SERVER in reports()[0], "the master to report again", START)
    assert reports()[0][SERVER].epoch == known > 5
    fleet.app.work.enqueue(2)
    fleet.wait_run("end", 2)
    assert lives(idle)
    fleet.open("open-1")
    epoch = Control(fleet.client).take_epoch("new", reports()[0][SERVER].epoch, respect=0.0, take_over=True)
    publish(fleet, "new", epoch, ("work",))
    fleet.slots(1)


def test_no_slot_dies_while_the_queue_server_hangs_or_loads(fleet: Fleet) -> None:
    master = fleet.launch(PLAIN, ("work",), ("work",))
    fleet.app.work.enqueue(-1)
    fleet.wait_run("begin", -1)
    before = [slot["pid"] for slot in fleet.live()]
    assert fleet.redis is not None and fleet.redis.process is not None
    fleet.redis.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: fleet.status()["queue_server_down"], "the master to notice that it hangs", START)
    fleet.redis.process.send_signal(signal.SIGCONT)
    wait_for(lambda: not fleet.status()["queue_server_down"], "the master to be answered", START)
    for n in range(5000):
        fleet.client.redis.set(f"ballast{n}", n)
    stop_redis(fleet)
    fleet.redis = prepare_again(fleet.redis, {"key-load-delay": "1000"})  # µs; it answers after every 1,000
    fleet.redis.spawn()
    wait_for(lambda: "loading" in fleet.status()["queue_server_down"], lambda: f"loading; {fleet.all_said()}", START)
    fleet.redis.wait_ready(lambda _: None)
    fleet.open("open-1")
    fleet.wait_empty()
    assert [slot["pid"] for slot in fleet.live()] == before
    assert len(fleet.runs("begin", -1)) == len(fleet.runs("end", -1)) == 1
    assert master.process.poll() is None


def prepare_again(redis: Embedded, options: dict[str, str]) -> Embedded:
    """The same server with other settings."""
    redis.stop()
    return prepare(redis.folder, options)


def test_what_slots_owe_a_queue_server_outlives_their_master(fleet: Fleet) -> None:
    second = fleet.spread("work")
    master = fleet.launch(PLAIN, ("work",))
    with fleet.at_second():
        fleet.app.work.enqueue(-1)
    fleet.wait_run("begin", -1)
    assert second.process is not None
    second.process.kill()
    second.process.wait()
    fleet.open("open-1")
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1)
    fleet.wait_empty()
    wait_for(lambda: any(path.stat().st_size for path in (fleet.folder / "run").glob("*.debts")), "the debt")
    end(master)
    fleet.start_master()
    start_redis(second)
    with fleet.at_second():
        wait_for(lambda: fleet.stats().done == 1, lambda: f"{fleet.stats()}; {fleet.all_said()}", START)
        fleet.wait_empty()
    assert len(fleet.runs("begin", -1)) == 1
    wait_for(lambda: not list((fleet.folder / "run").glob("*.debts")), "the old debts to be forgotten")


def test_a_clone_of_a_machine_is_refused_and_settles_nothing_of_the_first(fleet: Fleet) -> None:  # case 34
    first = stands_in_a_pack(fleet)
    shutil.copytree(
        fleet.folder / "run", fleet.folder / "clone", ignore=lambda _, names: [n for n in names if n.endswith(".sock")]
    )
    clone = fleet.start_master({"QSLOTS_RUNTIME_DIR": str(fleet.folder / "clone")})
    assert clone.ended(START) == 1
    assert f"a qmaster of the name {SERVER} is alive elsewhere" in clone.err.read_text().splitlines()[-1]
    assert lives(first) and fleet.locked() == [4]
    assert not list((fleet.folder / "clone").glob("*.board"))
    fleet.open()
    fleet.wait_empty()
    assert [len(fleet.runs("begin", n)) for n in range(7)] == [1] * 7


def test_a_ctrl_c_that_reaches_everybody_settles_all_the_same(fleet: Fleet) -> None:  # case 38
    fleet.write_app(PACK)
    fleet.app.work.enqueue_many([(n,) for n in range(7)])
    fleet.publish(("work",))
    master = fleet.start_master()
    fleet.wait_run("begin", 5)
    os.killpg(master.pid, signal.SIGINT)
    for pid in (pid for kind in ("mold", "courier", "slot") for pid in titled(fleet.folder, f"qmaster: {kind}")):
        os.kill(pid, signal.SIGINT)
    wait_for(lambda: fleet.status().get("stage") == "stopping", "the master to stop")
    assert "courier of main is gone" not in fleet.all_said()
    fleet.open()
    assert master.ended() == 0
    stats = fleet.stats()
    assert (stats.done, stats.active, stats.locked, fleet.fates()) == (6, 1, 0, {})


def test_a_queue_server_that_is_away_is_told_of_once(fleet: Fleet) -> None:
    master = fleet.launch(PLAIN, ("work",))
    before = fleet.pid_of(0)
    redis = stop_redis(fleet)
    wait_for(lambda: fleet.status()["queue_server_down"], "the master to notice")
    with pytest.raises(QueueServerDown):
        fleet.stats()
    start_redis(redis)
    wait_for(lambda: "answers again" in master.err.read_text(), "the master to be answered")
    fleet.app.work.enqueue(1)
    assert fleet.wait_run("end", 1)[0].pid == before
    assert master.err.read_text().count("slots go on with the last map") == 1


def test_a_manager_rises_above_an_epoch_that_the_queue_server_has_lost(fleet: Fleet) -> None:  # case 45
    lost = 10**15  # ahead of every clock
    fleet.write_app(PLAIN)
    publish(fleet, "former", lost, ("work",))
    master = fleet.start_master()
    fleet.slots(1)
    master.signal(signal.SIGSTOP)
    fleet.client.redis.flushall()
    manager = fleet.start("qmanager", "run")
    wait_for(lambda: "reigns with epoch" in manager.said(), "a manager that knows no master", START)
    master.signal(signal.SIGCONT)
    wait_for(lambda: f"reigning on with epoch {lost + 1}" in manager.said(), lambda: fleet.all_said(), START)
    control = Control(fleet.client)
    wait_for(lambda: control.reports()[0][SERVER].epoch == lost + 1, "the master to obey", START)


def test_a_queue_server_replaced_by_an_empty_one_is_served(fleet: Fleet) -> None:
    fleet.launch(PLAIN, ("work",))
    before = fleet.pid_of(0)
    redis = stop_redis(fleet)
    for file in redis.folder.glob("*.aof*"):
        file.unlink()
    start_redis(redis)
    fleet.app.work.enqueue(1)
    assert fleet.wait_run("end", 1)[0].pid == before
