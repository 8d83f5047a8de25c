"""Each tick runs once, whatever becomes of managers and masters meanwhile. Real programs, killed and started again."""

import signal

import pytest
from process.fleet import SERVER, Fleet, Program, lives
from support.waiting import wait_for

from qslots import ticks
from qslots.periodic import Step, tick_id
from qslots.reports import Periodic

# A pack handler sees the ids of its ticks. All are wanted, so that a slow machine misses none.
BEAT = """\
@task(every="1s", catch_up="all", batch=1)
def beat(tasks: list[Task]) -> None:
    note("beat", *[each.id for each in tasks])
"""
PLACE = "beat", "beat"
EVERY = Periodic(every=1, catch_up="all")


def beats(fleet: Fleet) -> list[str]:
    return [task for run in fleet.runs("beat") for task in run.words[1:]]


def more_beats(fleet: Fleet, count: int) -> None:
    """Waits for so many more ticks."""
    before = len(beats(fleet))
    wait_for(lambda: len(beats(fleet)) >= before + count, lambda: f"{count} more ticks; {fleet.all_said()}", 60.0)


def assert_each_once(fleet: Fleet, at_least: int) -> list[str]:
    """Every second from the first tick to the last has run once. Returns them."""
    found = sorted(beats(fleet))
    first, last = found[0], found[-1]
    [seen] = ticks.read(fleet.client, [PLACE])[1]
    assert seen.ticks is not None
    seconds = range(seen.ticks.cursor - 3600, seen.ticks.cursor)
    wanted = [task for task in (tick_id("beat", second) for second in seconds) if first <= task <= last]
    assert found == wanted
    assert len(found) >= at_least
    return found


def manager(fleet: Fleet) -> Program:
    folder = str(fleet.folder / f"manager-{len(fleet.programs)}")  # each as on a machine of its own
    program = fleet.start("qmanager", "run", "--take-over", environ={"QSLOTS_MANAGER_RUNTIME_DIR": folder})
    wait_for(lambda: "reigns" in program.said(), fleet.all_said, 30.0)
    return program


def test_each_tick_runs_once_however_often_the_manager_is_killed(fleet: Fleet) -> None:  # case 22
    fleet.write_app(BEAT)
    fleet.start_master()
    for _ in range(3):
        reigning = manager(fleet)
        more_beats(fleet, 2)
        reigning.signal(signal.SIGKILL)
        reigning.ended()
        more_beats(fleet, 2)  # what was stored ahead needs no manager
    assert_each_once(fleet, 12)


def test_each_tick_runs_once_while_managers_depose_each_other(fleet: Fleet) -> None:  # case 22
    fleet.write_app(BEAT)
    fleet.start_master()
    reigns = [manager(fleet)]
    more_beats(fleet, 2)
    for _ in range(4):
        reigns.append(manager(fleet))
        assert reigns[-2].ended() == 1
        more_beats(fleet, 1)
    assert_each_once(fleet, 6)


def test_manager_that_was_away_over_instants_makes_up_for_them_once(fleet: Fleet) -> None:  # case 22
    fleet.write_app(BEAT)
    now, [nothing] = ticks.read(fleet.client, [PLACE])
    away = Step(int(now) - 100, int(now) - 100)
    assert ticks.store(fleet.client, PLACE, EVERY, nothing, away)
    fleet.start_master()
    manager(fleet).signal(signal.SIGKILL)
    manager(fleet)
    more_beats(fleet, 102)
    assert assert_each_once(fleet, 102)[0] == tick_id("beat", int(now) - 99)


@pytest.mark.parametrize("change", ["", "\n\n@task\ndef new() -> None: ...\n"])
def test_rolling_restart_of_masters_neither_doubles_nor_loses_a_tick(fleet: Fleet, change: str) -> None:
    fleet.write_app(BEAT)
    names = (SERVER, "another")
    masters = {name: fleet.start_master({"QSLOTS_SERVER": name}) for name in names}
    manager(fleet)
    more_beats(fleet, 2)
    (fleet.folder / "shop.py").write_text((fleet.folder / "shop.py").read_text() + change)
    for name in names:
        masters[name].signal(signal.SIGTERM)
        masters[name].ended(20.0)
        masters[name] = fleet.start_master({"QSLOTS_SERVER": name})
        more_beats(fleet, 3)
    assert all(lives(master.pid) for master in masters.values())
    assert_each_once(fleet, 8)
