"""Applications that break what is not theirs, and machines that have nothing left: the master goes on, or says why."""

import os
import pathlib
import random
import signal
import subprocess
from collections.abc import Iterator
from functools import partial

import msgspec
import pytest
from process.fleet import APP, PRELUDE, SERVER, START, Fleet, Program, alone_titled, lives, titled
from support.groups import process_group
from support.waiting import wait_for

from qslots import keys
from qslots.scoreboard import Scoreboard

WORK = """\
import socket


@task
def work(n: int) -> None:
    note("ran", n)


@task
def say(raw: bytes) -> None:
    for number in range(3, 100):
        try:
            channel = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        if channel.type == socket.SOCK_SEQPACKET:
            channel.send(raw)
    note("said")
"""


def works_on(fleet: Fleet, master: Program, n: int) -> None:
    """The master has had no fault, and another task is done."""
    fleet.app.work.enqueue(n)
    fleet.wait_run("ran", n)
    assert master.process.poll() is None, master.said()
    assert "fault of qmaster" not in master.said(), master.said()


def test_garbage_on_the_scoreboard_disturbs_no_master(fleet: Fleet) -> None:
    master = fleet.launch(WORK, ("work",), ("work",))
    [path] = (fleet.folder / "run").glob("*.board")
    board, chance = Scoreboard.open(str(path)), random.Random(5)
    deaths = 0

    def disturbed() -> bool:
        record = board.record(chance.randrange(2))
        record._raw[:] = chance.randbytes(len(record._raw))
        record.put_text("doubts", b"9" * 30 + b" work@main")
        return master.process.poll() is not None or sum(fleet.status()["deaths"].values()) > deaths + 3

    wait_for(disturbed, master.said, START)
    assert fleet.status()["slots"] is not None
    fleet.slots(2)
    works_on(fleet, master, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xa2\xff\xfe",
        msgspec.msgpack.encode({"type": "born", "pid": 1}),
        b"\x81",
        b"\xc1" * 60_000,
        b"\x82\xa4type\xa4born\xa1z" + b"\x91" * 3000,
    ],
)
def test_nonsense_over_its_channel_costs_a_slot_and_nobody_else(fleet: Fleet, raw: bytes) -> None:
    master = fleet.launch(WORK, ("say",), ("work",))
    old, other = fleet.pid_of(0), fleet.pid_of(1)
    fleet.app.say.enqueue(raw)
    fleet.wait_run("said")
    wait_for(lambda: not lives(old), master.said, START)
    fleet.slots(2)
    assert fleet.pid_of(1) == other
    fleet.wait_empty("say")
    works_on(fleet, master, 1)


def told(master: Program, times: int) -> bool:
    return master.said().count("cannot be read") == times


def test_rows_of_the_map_that_nobody_can_follow_leave_the_last_one_in_force(fleet: Fleet) -> None:
    master = fleet.launch(WORK, ("work",))
    row = {"epoch": 1 << 62, "seq": 1, "manager": "m", "slots": [["work"]]}
    nonsense = (b"\xa2\xff\xff", msgspec.msgpack.encode([1]), msgspec.msgpack.encode({**row, "epoch": "new"}))
    for said, raw in enumerate(nonsense, 1):
        fleet.client.redis.hset(keys.MAP, SERVER, raw)
        wait_for(partial(told, master, said), master.said, START)
        works_on(fleet, master, said)
    fleet.client.redis.hset(
        keys.MAP, SERVER, msgspec.msgpack.encode({**row, "slots": [["work"], *[[]] * 5000, ["say"]]})
    )
    wait_for(lambda: "5002 slots for this server" in master.said(), master.said, START)
    works_on(fleet, master, 9)
    assert master.said().count("slots for this server") == 1
    assert len(fleet.live()) == 1


TAKEN = "import socket\nos.closerange(3, 100)\nkept = [socket.socket() for _ in range(9)]\n"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (TAKEN, "EX_OSFILE"),
        ("os.write(3, b'\\xa2\\xff\\xfe')\ntime.sleep(600)\n", "descriptor 3"),
        ("os._exit(3)\n", "code 3"),
    ],
)
def test_code_that_takes_its_molds_descriptors_is_given_up_in_one_line(fleet: Fleet, code: str, why: str) -> None:
    master = fleet.launch(WORK, ("work",))
    (fleet.folder / f"{APP}.py").write_text(PRELUDE + code + WORK)
    master.signal(signal.SIGHUP)
    wait_for(lambda: "is given up" in master.said(), master.said, START)
    [line] = [line for line in master.said().splitlines() if "is given up" in line]
    assert why in line and "generation 1 goes on" in line
    works_on(fleet, master, 1)


def test_code_that_reaps_or_forks_while_it_is_imported_is_served_and_leaves_nobody(fleet: Fleet) -> None:
    code = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nif os.fork() == 0:\n    time.sleep(600)\n"
    fleet.write_app(WORK)
    (fleet.folder / f"{APP}.py").write_text(PRELUDE + code + WORK)  # for its mold alone
    fleet.publish(("work",))
    master = fleet.start_master()
    fleet.slots(1)
    works_on(fleet, master, 1)
    master.signal(signal.SIGTERM)
    assert master.ended() == 0


def test_quit_does_not_wait_for_a_mold_that_hangs(fleet: Fleet) -> None:
    master = fleet.launch(WORK, ("work",), ("work",))
    mold = alone_titled(fleet.folder, "qmaster: mold")
    os.kill(mold, signal.SIGSTOP)
    os.kill(fleet.pid_of(0), signal.SIGKILL)
    wait_for(lambda: len(fleet.live()) == 1 and titled(fleet.folder, "qmaster: mold"), master.said, START)
    master.signal(signal.SIGQUIT)
    assert master.ended(8.0) == 0


def test_without_descriptors_or_room_it_ends_with_one_line(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    full = fleet.folder / "full"
    full.mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o size=4k,mode=700 none {full} && head -c 4096 /dev/zero > {full}/all"
    alone = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False)
    cases = {"Too many open files": ["prlimit", "--nofile=14:14"]}
    if alone.returncode == 0 or b"No space" in alone.stderr:
        cases["No space left on device"] = ["unshare", "-m", "sh", "-c", f'{mount}; exec "$@"', "sh"]
    fleet.environ["QSLOTS_RUNTIME_DIR"] = str(full)
    for why, fleet.prefix in cases.items():
        master = fleet.start_master()
        assert master.ended(START) == 1
        [line] = master.err.read_text().splitlines()
        assert why in line


Few = tuple[pathlib.Path, pathlib.Path]


@pytest.fixture
def few() -> Iterator[Few]:
    """A control group, and its file of the most processes."""
    with process_group() as made:
        yield made


def test_where_no_process_can_be_had_the_master_waits_for_one(few: Few, fleet: Fleet) -> None:
    group, most = few
    master = fleet.launch(WORK, ("work",), ("work",))
    (group / "cgroup.procs").write_text(str(master.pid))
    most.write_text("1")
    for kind in ("courier", "mold"):
        os.kill(*titled(fleet.folder, f"qmaster: {kind}"), signal.SIGKILL)
    for said in ("no courier can be started", "a mold cannot be made"):
        wait_for(lambda said=said: said in master.said(), master.said, START)  # type: ignore[misc]
    most.write_text("max")
    wait_for(lambda: fleet.status().get("queue_server_down") == "", master.said, START)
    wait_for(lambda: titled(fleet.folder, "qmaster: mold gen 2"), master.said, START)
    works_on(fleet, master, 1)
    fleet.stop_programs()


FAULTY = """\
import sys

if "qmaster" in sys.orig_argv:
    from qmaster.books import Books

    Books.to_measure = None
"""


def test_a_fault_of_its_own_that_comes_again_and_again_ends_it_with_a_code(fleet: Fleet) -> None:
    """No input is known to do this any more, so one part of the real master is broken."""
    (fleet.folder / "sitecustomize.py").write_text(FAULTY)
    fleet.environ["PYTHONPATH"] = str(fleet.folder)
    fleet.write_app(WORK)
    fleet.publish(("work",))
    master = fleet.start_master()
    wait_for(lambda: "it goes on" in master.said(), master.said, START)
    assert fleet.status()["pid"] == master.pid  # it still answers
    assert master.ended(START) == 70
    said = master.said()
    assert said.count("Traceback") >= 10 and said.splitlines()[-1].startswith("qmaster: it has failed too often")
