"""Signals of qmaster that end nothing: the log file is reopened, slots are made fewer, all are sent away."""

import os
import pathlib
import re
import signal

from process.fleet import SERVER, START, Fleet, Program, children_of, lives, titled
from support.waiting import wait_for

from qslots.control import Control
from qslots.reports import Report

CHATTER = """\
import logging
import sys

log = logging.getLogger("shop")


@task(batch=1)
def work(n: int) -> None:
    log.warning("logged %d", n)
    sys.stdout.write(f"printed {n}\\n")  # in one piece: print() makes several where PYTHONUNBUFFERED is set
    sys.stderr.write(f"complained {n}\\n")
    note("end", n)
"""


def reported(fleet: Fleet) -> Report:
    return Control(fleet.client).reports()[0][SERVER]


def logging_fleet(fleet: Fleet) -> tuple[Program, pathlib.Path]:
    log = fleet.folder / "logs" / "qmaster.log"
    log.parent.mkdir()
    fleet.environ["QSLOTS_LOG_FILE"] = "logs/qmaster.log"  # in the folder where it was started
    return fleet.launch(CHATTER, ("work",), ("work",)), log


def test_a_log_file_that_is_moved_away_loses_no_line(fleet: Fleet) -> None:
    master, log = logging_fleet(fleet)
    for batch in range(5):
        fleet.app.work.enqueue_many([(batch * 200 + n,) for n in range(200)])
        log.rename(log.with_suffix(f".{batch}"))
        master.signal(signal.SIGUSR1)
        wait_for(log.exists, "the new log file", START)
    fleet.wait_empty()
    said = "".join(path.read_text() for path in log.parent.iterdir())
    for word in ("logged", "printed", "complained"):
        found = sorted(int(number) for number in re.findall(rf"{word} (\d+)$", said, re.MULTILINE))
        assert found == list(range(1000)), word
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in log.parent.iterdir())
    assert master.said() == ""


def test_master_mold_couriers_and_slots_all_reopen_it(fleet: Fleet) -> None:
    master, log = logging_fleet(fleet)
    old = log.with_suffix(".1")
    log.rename(old)
    family = [master.pid, *children_of(fleet)]
    assert len(family) == 5
    master.signal(signal.SIGUSR1)

    def still_there() -> list[int]:
        open_files = {pid: [pathlib.Path(f"/proc/{pid}/fd/{number}").readlink() for number in (1, 2)] for pid in family}
        return [pid for pid, files in open_files.items() if old in files]

    wait_for(lambda: not still_there(), lambda: f"all to leave the old file: {still_there()}", START)
    os.kill(fleet.pid_of(0), signal.SIGKILL)  # who is forked from now on is there from the beginning
    wait_for(lambda: [each["pid"] in family for each in fleet.live()] == [False, True], "the next tenant", START)
    assert pathlib.Path(f"/proc/{fleet.pid_of(0)}/fd/2").readlink() == log
    assert "is opened anew" in log.read_text()
    assert "mold gen 1 is ready" in old.read_text()


def test_a_log_file_that_cannot_be_reopened_stays(fleet: Fleet) -> None:
    master, log = logging_fleet(fleet)
    moved = log.parent.with_name("gone")
    log.parent.rename(moved)
    master.signal(signal.SIGUSR1)
    wait_for(lambda: "cannot be opened anew: No such file" in (moved / log.name).read_text(), "the complaint", START)
    assert len(fleet.slots(2)) == 2


def test_a_log_file_that_cannot_be_made_is_refused_at_the_start(fleet: Fleet) -> None:
    fleet.write_app(CHATTER)
    master = fleet.start_master({"QSLOTS_LOG_FILE": "nowhere/qmaster.log"})
    assert master.ended(START) == 1
    assert master.said() == (
        "qmaster: server.log_file: nowhere/qmaster.log cannot be opened: No such file or directory\n"
    )


def test_a_master_that_cannot_start_says_so_in_its_log_and_where_it_was_started(fleet: Fleet) -> None:
    (fleet.folder / "shop.py").write_text("import nothing_of_this_name\n")
    master = fleet.start_master({"QSLOTS_LOG_FILE": "q.log"})
    assert master.ended(START) == 1
    [line] = master.said().splitlines()
    assert "nothing_of_this_name" in line
    assert line.removeprefix("qmaster: ") in (fleet.folder / "q.log").read_text()


def test_without_a_log_file_there_is_nothing_to_reopen(fleet: Fleet) -> None:
    master = fleet.launch(CHATTER, ("work",))
    master.signal(signal.SIGUSR1)
    wait_for(lambda: "server.log_file is not set" in master.said(), "it to be said", START)


def test_one_slot_fewer_and_one_more(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_MAX_SLOTS"] = "2"
    master = fleet.launch(CHATTER, ("work",))
    for number, most in ((signal.SIGTTOU, 1), (signal.SIGTTOU, 0), (signal.SIGTTIN, 1)):
        master.signal(number)
        wait_for(lambda most=most: fleet.status()["max_slots_by_hand"] == most, fleet.all_said, START)
        wait_for(lambda most=most: reported(fleet).max_slots == most, fleet.all_said, START)
    assert "one slot more: at most 1 until qmaster is started again" in master.said()


def test_winch_drains_and_a_second_one_does_not_undrain(fleet: Fleet) -> None:
    master = fleet.launch(CHATTER, ("work",), ("work",))
    master.signal(signal.SIGWINCH)
    wait_for(lambda: fleet.live() == [], "the slots to leave", START)
    wait_for(lambda: reported(fleet).draining, "the report to say so", START)
    master.signal(signal.SIGWINCH)
    wait_for(lambda: "it was drained already; `qmaster undrain` brings the slots back" in master.said(), "it", START)
    assert fleet.live() == []
    assert fleet.start("qmaster", "undrain").ended(START) == 0
    fleet.slots(2)


def test_what_is_meant_for_the_master_ends_none_of_its_family(fleet: Fleet) -> None:
    """As `systemctl kill` without --kill-whom=main sends it."""
    fleet.launch(CHATTER, ("work",))
    family = children_of(fleet)
    assert len(family) == 3
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
        for pid in family:
            os.kill(pid, number)
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1)
    fleet.publish(("work",), ("work",))  # and the mold still forks
    fleet.slots(2)
    assert all(map(lives, family))
    assert titled(fleet.folder, "qmaster: mold gen 1")
