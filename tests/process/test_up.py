"""``qslots up``: one command, one folder, nothing lost over its end, nothing left after it."""

import os
import pathlib
import re
import signal

import pytest
from process.fleet import PACK, Fleet, Program, alone_titled, lives, titles
from support.processes import processes_in
from support.waiting import wait_for

from qslots import embedded

MANY = """\
@task(batch=10, min_slots=1, max_slots=1)
def work(n: int) -> None:
    time.sleep(0.01)
    note("end", n)


@task(min_slots=1, max_slots=1)
def long() -> None:
    note("begin")
    gate("open")
"""


@pytest.fixture
def fleet(bare_fleet: Fleet) -> Fleet:
    """No queue server but the one that ``up`` makes; the folders are those that ``up`` chooses."""
    for name in ("QSLOTS_RUNTIME_DIR", "QSLOTS_STATE_DIR", "QSLOTS_SERVER"):
        del bare_fleet.environ[name]
    return bare_fleet


def up(fleet: Fleet, *options: str, folder: pathlib.Path | None = None) -> Program:
    """Starts it and waits until it says that it is ready."""
    program = fleet.start("qmanager.admin", "up", "--app", "shop", *options, folder=folder)
    wait_for(lambda: "ready at" in program.said() or program.process.poll() is not None, program.said, 30.0)
    assert program.process.poll() is None, program.said()
    found = re.search(r"ready at (\S+)", program.said())
    assert found is not None
    fleet.connect(found[1])
    return program


def end(fleet: Fleet, program: Program) -> None:
    program.signal(signal.SIGINT)
    assert program.ended(20.0) == 0, program.said()
    assert processes_in(fleet.folder) == [], titles(fleet.folder)


def numbers(fleet: Fleet) -> list[int]:
    return sorted(int(run.words[1]) for run in fleet.runs("end"))


def test_what_was_queued_survives_int_and_the_next_up(fleet: Fleet) -> None:
    fleet.write_app(MANY)
    program = up(fleet)
    fleet.app.work.enqueue_many([(n,) for n in range(300)])
    fleet.wait_run("end", count=20)
    end(fleet, program)
    assert len(fleet.runs("end")) < 300
    assert "Traceback" not in program.said()
    run = fleet.folder / ".qslots" / "run"
    assert not [path for path in run.iterdir() if path.suffix in (".sock", ".board")]
    again = up(fleet)
    fleet.wait_empty()
    assert numbers(fleet) == list(range(300)), "each once"
    end(fleet, again)


def test_a_killed_up_leaves_no_orphan_and_the_next_one_loses_nothing(fleet: Fleet) -> None:
    fleet.write_app(MANY)
    program = up(fleet)
    fleet.app.work.enqueue_many([(n,) for n in range(200)])
    fleet.wait_run("end", count=20)
    program.signal(signal.SIGKILL)
    wait_for(lambda: not processes_in(fleet.folder), lambda: f"no orphan: {titles(fleet.folder)}", 5.0)
    again = up(fleet)
    fleet.wait_empty()
    ran = numbers(fleet)
    assert set(ran) == set(range(200))
    assert len(ran) <= 201, "only the task that ran may run again"
    end(fleet, again)


def test_a_second_up_in_the_same_folder_says_so(fleet: Fleet) -> None:
    fleet.write_app(PACK)
    first = up(fleet)
    second = fleet.start("qmanager.admin", "up", "--app", "shop")
    assert second.ended() == 1
    [line] = second.said().splitlines()
    assert f"in use by pid {first.pid}" in line
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1)
    end(fleet, first)


def test_two_folders_of_one_host_work_at_the_same_time(fleet: Fleet) -> None:
    fleet.write_app(PACK)
    one, two = fleet.folder / "one", fleet.folder / "two"
    for folder in (one, two):
        folder.mkdir()
    fleet.environ["PYTHONPATH"] = str(fleet.folder)
    programs = []
    for number, folder in enumerate((one, two)):
        programs.append(up(fleet, folder=folder))
        fleet.app.work.enqueue(number)
    fleet.wait_run("end", 0)
    fleet.wait_run("end", 1)
    for folder in (one, two):
        status = fleet.start("qmaster", "status", folder=folder)
        assert status.ended() == 0, status.said()
    for program in programs:
        program.signal(signal.SIGINT)
    assert [program.ended(20.0) for program in programs] == [0, 0]


def test_a_qmaster_that_was_killed_is_started_again_and_nothing_is_lost(fleet: Fleet) -> None:
    fleet.write_app(MANY)
    program = up(fleet)
    fleet.app.work.enqueue_many([(n,) for n in range(200)])
    fleet.wait_run("end", count=20)
    master = alone_titled(fleet.folder, "qmaster: master")
    os.kill(master, signal.SIGKILL)
    fleet.wait_empty()
    ran = numbers(fleet)
    assert set(ran) == set(range(200))
    assert len(ran) <= 201
    assert "qmaster was killed by SIGKILL; starting it again" in program.said()
    end(fleet, program)


def test_a_killed_queue_server_and_a_killed_manager_are_started_again(fleet: Fleet) -> None:
    fleet.write_app(MANY)
    program = up(fleet)
    fleet.app.work.enqueue_many([(n,) for n in range(200)])
    [slot] = {run.pid for run in fleet.wait_run("end", count=20)}
    for pid, name in titles(fleet.folder).items():
        if "redis-server" in name or name.startswith("qmanager: epoch"):
            os.kill(pid, signal.SIGKILL)
    fleet.wait_empty()
    assert "the queue server was killed by SIGKILL" in program.said()
    assert "qmanager was killed by SIGKILL" in program.said()
    assert numbers(fleet) == list(range(200))
    assert {run.pid for run in fleet.runs("end")} == {slot}
    end(fleet, program)


def test_a_second_int_does_not_wait_for_a_long_task(fleet: Fleet) -> None:
    fleet.write_app(MANY)
    program = up(fleet)
    fleet.app.long.enqueue()
    [run] = fleet.wait_run("begin")
    program.signal(signal.SIGINT)
    wait_for(lambda: "stopping" in program.said(), "it to say that it stops")
    assert lives(run.pid)
    program.signal(signal.SIGINT)
    assert program.ended(5.0) == 130
    assert processes_in(fleet.folder) == []


def test_qmaster_stop_ends_up_in_good_order(fleet: Fleet) -> None:
    fleet.write_app(MANY)
    program = up(fleet)
    assert fleet.start("qmaster", "stop").ended() == 0
    assert program.ended() == 0


def test_a_queue_server_that_is_not_the_first_may_be_away(fleet: Fleet) -> None:
    fleet.write_app(PACK)
    first = embedded.start(fleet.folder / "first", lambda _: None)
    try:
        (fleet.folder / "q.yml").write_text(
            "queue_servers: {east: 'unix:///elsewhere', b: 'unix:///none'}\nqueues: {work: {queue_server: east}}\n"
        )
        program = up(fleet, "-c", "q.yml", "--redis", first.url)
        wait_for(lambda: "queue server unix:///none does not answer" in program.said(), program.said)
        assert f"(export QSLOTS_CONFIG={fleet.folder}/q.yml QSLOTS_REDIS={first.url})" in program.said()
        fleet.app.work.enqueue(1)
        fleet.wait_run("end", 1)
        program.signal(signal.SIGINT)
        assert program.ended(20.0) == 0, program.said()
    finally:
        fleet.client.close()
        first.stop()
