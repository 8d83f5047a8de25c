"""Generations of the code under work: reload, what keeps the old one, what happens to molds that die."""

import json
import os
import pathlib
import re
import signal
from typing import Any

import pytest
from process.fleet import APP, PRELUDE, SERVER, START, Fleet, Program, began, lives, titled, titles
from support.moved_clock import sitecustomize as moved_clock
from support.waiting import wait_for

from qmaster.asking import ask
from qslots.control import Control

WORK = """\
@task(batch=4)
def work(n: int) -> None:
    time.sleep(0.01)
    note("{}", n)


@task
def hold(name: str) -> None:
    note("begin", name)
    gate(name)
    note("end", name)
"""
OLD, NEW = WORK.format("old"), WORK.format("young")


def deploy(fleet: Fleet, source: str) -> None:
    """New code on disk; the test goes on with what it has imported."""
    (fleet.folder / f"{APP}.py").write_text(PRELUDE + source)


def asked(fleet: Fleet, command: str = "reload", *, wait: bool = True) -> dict[str, Any]:
    answer = ask(fleet.folder / "run" / f"{SERVER}.sock", {"command": command, "wait": wait}, timeout=60.0)
    assert answer is not None
    return answer


def asked_at_work(fleet: Fleet, command: str = "reload") -> dict[str, Any]:
    """The same of a fleet that has tasks: the first of them that is finished proves the new generation, where otherwise
    ten seconds must pass.
    """
    fleet.app.work.enqueue_many([(n,) for n in range(1000, 1200)])
    return asked(fleet, command)


def molds(fleet: Fleet) -> list[int]:
    """One a title, the eldest: a slot that is just being born still has that of its mold."""
    found = [
        (began(pid), name, pid) for pid, name in titles(fleet.folder).items() if name.startswith("qmaster: mold gen")
    ]
    eldest: dict[str, int] = {}
    for _, name, pid in sorted(found):
        eldest.setdefault(name, pid)
    return list(eldest.values())


def at_work(fleet: Fleet) -> int:
    """Slots that serve now: those that are born, and not asked to leave."""
    return sum(slot["state"] in ("idle", "taking", "busy") for slot in fleet.live())


def generations(fleet: Fleet) -> list[int]:
    return [slot["generation"] for slot in fleet.live()]


def reload_of(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.status()["reload"] or {"stage": "none"}
    return found


def runs_as(fleet: Fleet, word: str, n: int) -> None:
    fleet.app.work.enqueue(n)
    fleet.wait_run(word, n)


def test_a_reload_under_load_loses_nothing_and_leaves_the_slots_at_work(fleet: Fleet) -> None:
    slots, tasks = 4, 2000
    fleet.write_app(OLD)
    fleet.app.work.enqueue_many([(n,) for n in range(tasks)])  # slots that have worked allow more of them
    master = fleet.launch(OLD, *[("work",)] * slots)
    wait_for(lambda: at_work(fleet) == slots, fleet.all_said, START)
    [old] = molds(fleet)
    deploy(fleet, NEW)
    least, alive = [slots], [slots]  # by what the master says, and by what there is
    master.signal(signal.SIGHUP)

    def is_done() -> bool:
        least.append(at_work(fleet))
        alive.append(len(titled(fleet.folder, "qmaster: slot")))
        return reload_of(fleet)["stage"] == "done"

    wait_for(is_done, fleet.all_said, START)
    assert min(least) >= slots - 1 <= min(alive)
    assert len(least) > 10, "looked at throughout"
    wait_for(lambda: not lives(old), "the old mold to be gone", START)
    fleet.wait_empty()
    ran = sorted(int(run.words[1]) for word in ("old", "young") for run in fleet.runs(word))
    assert ran == list(range(tasks))
    assert fleet.runs("young")
    assert generations(fleet) == [2] * slots
    assert len(molds(fleet)) == 1
    stats = fleet.stats()
    assert (stats.failed, stats.crashed, stats.lost) == (0, 0, 0)


BROKEN = {
    "syntax": ("def work(:\n", "SyntaxError"),
    "import": ("import nowhere_to_be_found\n" + NEW, "nowhere_to_be_found"),
    "no handler": ("", "declares no handler"),
    "thread": (
        "import threading\nthreading.Thread(target=time.sleep, args=(99,), name='pump').start()\n" + NEW,
        "pump",
    ),
    "exit": ("os._exit(3)\n", "exited with code 3"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_code_leaves_the_old_generation_at_work(fleet: Fleet, how: str) -> None:
    source, said = BROKEN[how]
    master = fleet.launch(OLD, ("work",))
    before = fleet.pid_of(0)
    deploy(fleet, source)
    answer = asked(fleet)
    assert (answer["ok"], answer["generation"]) == (False, 2)
    assert said in answer["why"]
    assert said in master.err.read_text()
    status = fleet.status()
    assert (status["reload"]["stage"], status["generation"]) == ("failed", 1)
    assert said in status["reload"]["why"]
    runs_as(fleet, "old", 1)
    assert fleet.pid_of(0) == before
    deploy(fleet, NEW)
    asked(fleet, wait=False)
    wait_for(lambda: generations(fleet) == [3], fleet.all_said, START)
    runs_as(fleet, "young", 2)


DEADLY = {
    "raise RuntimeError('no pool')": "RuntimeError: no pool",
    "os._exit(3)": "exited with code 3",
    "os.kill(os.getpid(), 11)": "was killed by SIGSEGV",
}


@pytest.mark.parametrize("how", DEADLY)
def test_code_whose_slots_die_at_birth_is_dropped(fleet: Fleet, how: str) -> None:
    fleet.launch(OLD, *[("work",)] * 2)
    hook = f"from qslots import hooks\n\n@hooks.after_fork\ndef die(_: hooks.Slot) -> None:\n    {how}\n\n"
    deploy(fleet, hook + NEW)
    answer = asked(fleet)
    assert (answer["ok"], answer["generation"]) == (False, 2)
    assert answer["why"].startswith("3 of its slots died at birth, the last one ")
    assert DEADLY[how] in answer["why"]
    wait_for(lambda: generations(fleet) == [1] * 2, fleet.all_said, START)
    wait_for(lambda: len(molds(fleet)) == 1, "the mold of the new code to be gone", START)
    runs_as(fleet, "old", 1)
    status = fleet.status()
    assert status["generation"] == 1
    assert status["reload"]["why"] == answer["why"]


def test_a_long_task_is_not_interrupted_and_never_are_there_three_molds(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_GRACEFUL_TIMEOUT"] = "1s"
    master = fleet.launch(OLD, ("hold",), ("work",))
    fleet.app.hold.enqueue("open")
    fleet.wait_run("begin", "open")
    deploy(fleet, NEW)
    master.signal(signal.SIGHUP)
    wait_for(lambda: sorted(generations(fleet)) == [1, 2], fleet.all_said, START)
    runs_as(fleet, "young", 1)
    for _ in range(2):
        master.signal(signal.SIGHUP)
        wait_for(lambda: reload_of(fleet)["stage"] == "waiting", fleet.all_said)
    wait_for(lambda: "1 slot of generation 1, the oldest task runs for" in reload_of(fleet)["why"], fleet.all_said)
    # longer than the grace, and than a slot in a task counts as one that is about to leave
    wait_for(lambda: "SIGKILL" in master.err.read_text() or oldest(fleet) > 7, fleet.all_said, START)
    assert len(molds(fleet)) == 2
    fleet.open()
    fleet.wait_run("end", "open")
    wait_for(lambda: generations(fleet) == [3, 3], fleet.all_said, START)
    assert len(fleet.runs("begin", "open")) == 1
    assert fleet.stats("hold").crashed == 0


def oldest(fleet: Fleet) -> float:
    return max(slot["task_age"] or 0.0 for slot in fleet.live())


def test_all_slots_in_long_tasks_are_asked_and_none_is_ended(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_GRACEFUL_TIMEOUT"] = "1s"
    fleet.launch(OLD, ("hold",), ("hold",))
    fleet.app.hold.enqueue_many([("a",), ("b",)])
    fleet.wait_run("begin", count=2)
    asked(fleet, wait=False)
    wait_for(lambda: {slot["state"] for slot in fleet.live()} == {"leaving"}, fleet.all_said, START)
    fleet.open("b")
    wait_for(lambda: sorted(generations(fleet)) == [1, 2], fleet.all_said, START)
    fleet.open("a")
    wait_for(lambda: generations(fleet) == [2, 2], fleet.all_said, START)
    assert len(fleet.runs("end")) == 2


def test_a_mold_killed_while_it_loads_leaves_the_old_generation_at_work(fleet: Fleet) -> None:
    master = fleet.launch(OLD, ("work",))
    deploy(fleet, 'gate("loaded")\n' + NEW)
    master.signal(signal.SIGHUP)
    [mold] = wait_for(lambda: titled(fleet.folder, "qmaster: mold gen 2, loading"), "the new mold", START)
    assert reload_of(fleet)["stage"] == "loading"
    os.kill(mold, signal.SIGKILL)
    wait_for(lambda: reload_of(fleet)["stage"] == "failed", fleet.all_said)
    assert "SIGKILL" in reload_of(fleet)["why"]
    runs_as(fleet, "old", 1)
    fleet.open("loaded")
    asked(fleet, wait=False)
    wait_for(lambda: generations(fleet) == [3], fleet.all_said, START)
    runs_as(fleet, "young", 2)


@pytest.mark.parametrize("when", ["with the first", "with the last"])
def test_a_mold_killed_in_the_middle_of_births_leaves_no_slot_in_limbo(fleet: Fleet, when: str) -> None:
    fleet.write_app(OLD)
    fleet.app.work.enqueue_many([(n,) for n in range(50)])  # slots that have worked allow more of them
    fleet.publish(*[("work",)] * 4)
    fleet.start_master()
    count = 1 if when == "with the first" else 4
    wait_for(lambda: len(titled(fleet.folder, "qmaster: slot")) >= count, fleet.all_said, START)
    [mold] = molds(fleet)
    os.kill(mold, signal.SIGKILL)
    fleet.wait_empty()
    wait_for(lambda: generations(fleet) == [2] * 4, fleet.all_said, START)
    assert len(titled(fleet.folder, "qmaster: slot")) == 4
    assert sorted(int(run.words[1]) for run in fleet.runs("old")) == list(range(50))


def test_both_molds_killed_during_a_reload(fleet: Fleet) -> None:
    fleet.launch(OLD, ("hold",), ("work",))
    fleet.app.hold.enqueue("open")
    fleet.wait_run("begin", "open")
    deploy(fleet, NEW)
    asked(fleet, wait=False)
    wait_for(lambda: sorted(generations(fleet)) == [1, 2], fleet.all_said, START)
    for mold in molds(fleet):
        os.kill(mold, signal.SIGKILL)
    wait_for(lambda: max(generations(fleet)) == 3, fleet.all_said, START)
    runs_as(fleet, "young", 1)
    fleet.open()
    wait_for(lambda: generations(fleet) == [3, 3], fleet.all_said, START)
    assert len(fleet.runs("end", "open")) == 1


def test_a_stopped_mold_is_replaced(fleet: Fleet) -> None:
    fleet.write_app(OLD)
    fleet.app.work.enqueue_many([(n,) for n in range(50)])  # slots that have worked allow more of them
    fleet.launch(OLD, *[("work",)] * 2)
    fleet.wait_empty()
    [mold] = molds(fleet)
    os.kill(mold, signal.SIGSTOP)
    fleet.publish(*[("work",)] * 4)
    wait_for(lambda: generations(fleet) == [2] * 4, fleet.all_said, 60.0)
    assert not lives(mold)


def test_an_import_that_hangs_ends_a_master_that_starts(fleet: Fleet) -> None:
    (fleet.folder / f"{APP}.py").write_text(PRELUDE + 'gate("never")\n')
    master = fleet.start_master({"QSLOTS_LOAD_TIMEOUT": "500ms"})
    assert master.ended(START) == 1
    assert "server.load_timeout" in master.err.read_text().splitlines()[-1]


def settled_by_file(fleet: Fleet, **server: object) -> pathlib.Path:
    for name in ("PRIVATE_LIMIT", "RESERVE_MEMORY", "STATE_DIR"):
        del fleet.environ[f"QSLOTS_{name}"]
    fleet.environ["QSLOTS_CONFIG"] = str(fleet.folder / "qslots.yml")
    return write_settings(fleet, {"server": server})


def write_settings(fleet: Fleet, document: dict[str, Any]) -> pathlib.Path:
    """Also with a folder for the state of a master that is of this test alone."""
    path = fleet.folder / "qslots.yml"
    server = {"state_dir": str(fleet.folder / "state"), **document.get("server", {})}
    path.write_text(json.dumps({**document, "server": server}))
    return path


def declared_priority(fleet: Fleet) -> int | None:
    """None between the first report of a new declaration and the declaration itself."""
    control = Control(fleet.client)
    [report] = control.reports()[0].values()
    declared = control.declared({report.declared}).get(report.declared)
    return None if declared is None else next(each.priority for each in declared.queues if each.name == "work")


def test_changed_settings_are_applied_and_what_needs_a_restart_is_said(fleet: Fleet) -> None:
    settled_by_file(fleet, private_limit="48M", max_slots=4)
    master = fleet.launch(OLD, ("work",), ("work",))
    wait_for(lambda: fleet.status()["max_slots"], "the capacity")
    document = {
        "server": {"private_limit": "64M", "max_slots": 1, "state_dir": "/elsewhere"},
        "queues": {"work": {"priority": 77}},
        "log_level": "debug",
    }
    write_settings(fleet, document)
    answer = asked_at_work(fleet)
    assert answer == {"ok": True, "generation": 2, "why": "a restart is needed for server.state_dir"}
    [line] = [line for line in master.err.read_text().splitlines() if "settings of generation 2" in line]
    for part in ("queues.work.priority: 77", "server.private_limit: '64M' (was '48M')", "server.max_slots: 1 (was 4)"):
        assert part in line
    wait_for(lambda: fleet.status()["max_slots"] == 1, fleet.all_said, START)
    wait_for(lambda: declared_priority(fleet) == 77, fleet.all_said, START)


REFUSED = {
    "much": r"server\.private_limit is 'much'",
    "64K": r"private_limit 64K is less than twice what a fresh slot .* needs \([\d.]+ MB\): set at least \d+M",
}


@pytest.mark.parametrize("limit", REFUSED)
def test_bad_settings_keep_the_old_ones(fleet: Fleet, limit: str) -> None:
    settled_by_file(fleet, max_slots=4)
    master = fleet.launch(OLD, ("work",))
    before = fleet.pid_of(0)
    deploy(fleet, NEW)
    write_settings(fleet, {"server": {"max_slots": 1, "private_limit": limit}})
    answer = asked(fleet)
    assert not answer["ok"]
    assert re.search(REFUSED[limit], answer["why"]), answer["why"]
    assert answer["why"] in master.err.read_text()
    runs_as(fleet, "old", 1)
    assert fleet.pid_of(0) == before


def test_a_refork_reads_no_settings(fleet: Fleet) -> None:
    path = settled_by_file(fleet, max_slots=4)
    master = fleet.launch(OLD, ("work",))
    deploy(fleet, NEW)
    path.write_text("nonsense: [")
    master.signal(signal.SIGUSR2)
    wait_for(lambda: generations(fleet) == [2], fleet.all_said, START)
    runs_as(fleet, "young", 1)
    wait_for(lambda: len(molds(fleet)) == 1, "the old mold to be gone", START)
    answer = asked(fleet)
    assert (answer["ok"], "is not YAML" in answer["why"]) == (False, True)
    assert asked_at_work(fleet, "refork") == {"ok": True, "generation": 4, "why": ""}


def test_without_room_for_a_second_mold_idle_slots_make_way(fleet: Fleet) -> None:
    settled_by_file(fleet)
    fleet.launch(OLD, *[("work",)] * 2)
    write_settings(fleet, {"server": {"reserve_memory": "100%"}})
    assert asked_at_work(fleet)["ok"]
    asked(fleet, wait=False)
    wait_for(lambda: "room is made for a second mold" in reload_of(fleet)["why"], fleet.all_said, START)
    wait_for(lambda: len(fleet.live()) == 1, fleet.all_said, START)
    wait_for(lambda: len(molds(fleet)) == 1, "the old mold to be gone, and no new one to be there", START)


def test_a_reload_for_which_no_room_comes_free_is_refused_with_the_figures(fleet: Fleet) -> None:
    settled_by_file(fleet)
    move = moved_clock.create(fleet.folder / "clock")
    fleet.environ["PYTHONPATH"] = str(pathlib.Path(moved_clock.__file__).parent)
    fleet.environ["QSLOTS_TEST_CLOCK"] = str(fleet.folder / "clock")
    master = fleet.launch(OLD, ("hold", "work"))
    write_settings(fleet, {"server": {"reserve_memory": "100%"}})
    asked(fleet, wait=False)
    wait_for(lambda: generations(fleet) == [2], fleet.all_said, START)
    runs_as(fleet, "old", 1)
    wait_for(lambda: len(molds(fleet)) == 1, "the old mold to be gone", START)
    fleet.app.hold.enqueue("open")
    [run] = fleet.wait_run("begin", "open")
    deploy(fleet, NEW)
    asked(fleet, wait=False)
    wait_for(lambda: "room is made for a second mold" in reload_of(fleet)["why"], fleet.all_said, START)
    for step in range(1, 9):  # half a minute, in steps after which the master is not late
        before_it = last_report(fleet)
        move(step * 4.0)
        wait_for(lambda before_it=before_it: last_report(fleet) > before_it, "the master to report")  # type: ignore[misc]
    wait_for(lambda: reload_of(fleet)["stage"] == "failed", fleet.all_said)
    figures = r"a second mold needs \d+ MB and -?\d+ MB are free beside server\.reserve_memory: make room and try again"
    assert re.search(figures, reload_of(fleet)["why"]), reload_of(fleet)
    assert reload_of(fleet)["why"] in master.said()
    fleet.open()
    [end] = fleet.wait_run("end", "open")
    assert (end.pid, generations(fleet), len(molds(fleet))) == (run.pid, [2], 1)


def last_report(fleet: Fleet) -> float:
    return fleet.client.redis.zscore("qs:seen", SERVER) or 0.0  # type: ignore[return-value]


def test_status_tells_of_both_generations(fleet: Fleet) -> None:
    fleet.launch(OLD, ("hold",), ("work",))
    fleet.app.hold.enqueue("open")
    fleet.wait_run("begin", "open")
    asked(fleet, wait=False)
    wait_for(lambda: sorted(generations(fleet)) == [1, 2], fleet.all_said, START)
    runs_as(fleet, "old", 1)

    def told() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = fleet.status()["generations"]
        return found if all(each["pss"] for each in found) and found[-1]["state"] == "proven" else []

    old, new = wait_for(told, fleet.all_said, START)
    assert (old["number"], old["slots"], new["number"], new["slots"]) == (1, 1, 2, 1)
    assert {old["pid"], new["pid"]} == set(molds(fleet))
    assert new["modules"] > 100
    assert reload_of(fleet)["stage"] == "replacing"
    fleet.open()
    wait_for(lambda: [each["number"] for each in fleet.status()["generations"]] == [2], fleet.all_said, START)


def test_a_master_that_stops_begins_no_reload(fleet: Fleet) -> None:
    master: Program = fleet.launch(OLD, ("hold",))
    fleet.app.hold.enqueue("open")
    fleet.wait_run("begin", "open")
    master.signal(signal.SIGTERM)
    wait_for(lambda: fleet.status().get("stage") == "stopping", "the master to stop")
    assert asked(fleet) == {"ok": False, "generation": 1, "why": "this master is stopping"}
    fleet.open()
    assert master.ended(START) == 0
