"""The commands of qmaster against a real master, and whatever else may come to its control socket."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from process.fleet import APP, PACK, SERVER, START, Fleet, Program, lives
from support.waiting import wait_for

from qslots import keys

WORK = """\
@task
def work(n: int) -> None:
    note("begin", n)
    gate("open")
    note("end", n)


@task(batch=1)
def warm() -> None:
    time.sleep(0.01)
"""
STATUS = b'{"command": "status"}\n'


def say(fleet: Fleet, *command: str) -> str:
    """The one line that a command of qmaster prints."""
    program = fleet.start("qmaster", *command)
    assert program.ended(START) == 0, program.said()
    return program.out.read_text().strip()


def fails(fleet: Fleet, *command: str) -> str:
    """The one line on stderr of a command that fails."""
    program = fleet.start("qmaster", *command)
    assert program.ended(START) == 1, program.said()
    [line] = program.err.read_text().splitlines()
    return line


def document(program: Program) -> Any:
    assert program.ended(START) == 0, program.said()
    return json.loads(program.out.read_text())


def path_of(fleet: Fleet) -> pathlib.Path:
    return fleet.folder / "run" / f"{SERVER}.sock"


@contextlib.contextmanager
def connected(fleet: Fleet, timeout: float = 5.0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path_of(fleet)))  # with a time-out it would fail where others are in the queue
        line.settimeout(timeout)
        yield line


# What people ask for


def test_drain_lets_slots_leave_after_their_task_and_undrain_brings_them_back(fleet: Fleet) -> None:
    master = fleet.launch(WORK, ("work",), ("work",))
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("begin", 1)
    waiting = fleet.start("qmaster", "drain", "--wait", "--json")
    wait_for(lambda: [slot["pid"] for slot in fleet.status()["slots"]] == [run.pid], "the idle slot to leave", START)
    assert fleet.status()["draining"] is True
    wait_for(lambda: b"draining\xc3" in fleet.client.redis.hget(keys.REPORTS, SERVER), "the report to say so", START)
    assert say(fleet, "drain") == "drained, 1 slot still here; `qmaster undrain` brings them back"
    assert waiting.process.poll() is None
    fleet.app.work.enqueue(2)
    fleet.open()
    assert document(waiting) == {"ok": True, "why": "", "slots": 0}
    assert len(fleet.runs("end", 1)) == 1
    assert not fleet.runs("begin", 2)
    assert master.process.poll() is None
    assert "is running, drained" in say(fleet, "status")
    assert say(fleet, "undrain") == "no longer drained, slots come back with the next map"
    fleet.wait_run("end", 2)
    assert "no longer drained" in master.said()


def test_who_waits_for_a_drain_hears_that_it_was_taken_back(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",))
    fleet.app.work.enqueue(1)
    fleet.wait_run("begin", 1)
    waiting = fleet.start("qmaster", "drain", "--wait")
    wait_for(lambda: fleet.status()["draining"], "it to be drained", START)
    say(fleet, "undrain")
    assert waiting.ended(START) == 1
    assert "it was undrained meanwhile" in waiting.err.read_text()
    fleet.open()


def test_who_waits_at_a_terminal_sees_how_it_goes(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",), ("work",))
    fleet.app.work.enqueue(1)
    fleet.wait_run("begin", 1)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "qmaster", "drain", "--wait"]
    program = subprocess.Popen(
        command, env={**fleet.environ, "TERM": "xterm"}, cwd=fleet.folder, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while b"running, drained: 1 slot, 1 busy" not in seen:
        seen += os.read(ours, 4096)
    fleet.open()
    out, _ = program.communicate(timeout=START)
    os.close(ours)
    assert (program.returncode, out.decode().count("\n")) == (0, 1)


def test_watching_goes_on_without_a_master_until_it_is_told_to_end(fleet: Fleet) -> None:
    master = fleet.launch(WORK, ("work",))
    watch = fleet.start("qmaster", "status", "--watch")
    wait_for(lambda: watch.out.read_text().count("is running, generation 1") >= 2, watch.said, START)
    master.signal(signal.SIGQUIT)
    wait_for(lambda: "no qmaster is running here" in watch.out.read_text(), watch.said, START)
    watch.signal(signal.SIGINT)
    assert (watch.ended(START), watch.err.read_text()) == (130, "")


def launch_three(fleet: Fleet) -> None:
    """Slots that have worked allow more of them: a third one comes without delay."""
    fleet.write_app(WORK)
    fleet.app.warm.enqueue_many([()] * 20)
    fleet.launch(WORK, *[("work", "warm")] * 3)
    fleet.wait_empty("warm")


def test_recycled_slots_finish_their_task_and_are_forked_again(fleet: Fleet) -> None:
    launch_three(fleet)
    before = {slot["index"]: slot["pid"] for slot in fleet.live()}
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("begin", 1)
    busy = next(index for index, pid in before.items() if pid == run.pid)
    idle = (busy + 1) % 3
    assert say(fleet, "recycle", str(busy), str(idle)) == f"recycled after their task: {busy}, {idle}"
    wait_for(lambda: not lives(before[idle]), "the idle slot to leave", START)
    assert lives(run.pid)
    fleet.open()
    wait_for(lambda: not lives(run.pid), "the busy slot to leave", START)
    after = {slot["index"]: slot["pid"] for slot in fleet.slots(3)}
    assert [index for index in before if before[index] == after[index]] == [3 - busy - idle]
    assert (fleet.stats().done, fleet.fates()) == (1, {})


def test_recycling_all_reaches_every_slot(fleet: Fleet) -> None:
    launch_three(fleet)
    before = {slot["pid"] for slot in fleet.live()}
    assert document(fleet.start("qmaster", "recycle", "--all", "--json")) == {"ok": True, "why": "", "slots": [0, 1, 2]}
    wait_for(lambda: not any(map(lives, before)), "all to leave", START)
    assert not before & {slot["pid"] for slot in fleet.slots(3)}


def test_what_cannot_be_done_is_told_in_one_line(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",))
    assert fails(fleet, "recycle", "9") == "qmaster: no slot 9 that could be recycled now; there are: 0"
    program = fleet.start("qmaster", "recycle", "0", "9", "--json")
    assert program.ended(START) == 1
    assert json.loads(program.out.read_text())["ok"] is False
    for wrong in (("recycle",), ("recycle", "0", "--all"), ("recycle", "-1"), ("status", "--json", "--watch")):
        assert fleet.start("qmaster", *wrong).ended(START) == 2


def test_without_a_master_every_command_says_what_to_do(fleet: Fleet) -> None:
    for command in ("status", "reload", "refork", "drain", "undrain", "stop"):
        assert "no qmaster is running here" in fails(fleet, command)
    assert "start it with `qmaster run`" in fails(fleet, "recycle", "--all")
    fleet.launch(WORK, ("work",))
    assert f"there is {SERVER}: --server {SERVER}" in fails(fleet, "status", "--server", "other")


def test_stop_is_answered_when_all_is_over(fleet: Fleet) -> None:
    master = fleet.launch(WORK, ("work",))
    fleet.app.work.enqueue(1)
    fleet.wait_run("begin", 1)
    stop = fleet.start("qmaster", "stop", "--json")
    wait_for(lambda: fleet.status().get("stage") == "stopping", "the master to stop", START)
    fleet.open()
    assert document(stop) == {"ok": True, "why": ""}
    assert master.ended() == 0
    assert len(fleet.runs("end", 1)) == 1


def test_the_keys_of_status_are_those_of_the_page(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",))
    found = document(fleet.start("qmaster", "status", "--json"))
    page = (pathlib.Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    table = page.partition("\n## What `qmaster status` says\n")[2].partition("\n## ")[0]
    listed = {name.strip("`") for row in table.splitlines() if row.startswith("| `")
              for name in row.split(" | ")[0].strip("| ").split(", ")}  # fmt: skip
    assert set(found) == listed


def test_tab_completes_servers_and_slots(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",), ("work",))

    def completed(*words: str) -> list[str]:
        line = " ".join(("qmaster", *words))
        more = {"_QMASTER_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        code = "from qmaster.cli import main; main(prog_name='qmaster')"
        told = subprocess.run(
            [sys.executable, "-c", code], env={**fleet.environ, **more}, capture_output=True, text=True
        )
        return [each.partition(",")[2] for each in told.stdout.split()]

    assert completed("recycle", "") == ["0", "1"]
    assert completed("status", "--server", "un") == [SERVER]
    assert "undrain" in completed("")


# What nobody should ask for


def works(fleet: Fleet, n: int) -> None:
    """The master answers the next client and its slots work."""
    with connected(fleet) as line:
        line.sendall(STATUS)
        assert json.loads(line.makefile("rb").readline())["stage"] == "running"
    fleet.app.work.enqueue(n)
    fleet.wait_run("end", n)


ODD: list[object] = [None, True, 0, -1, 1 << 70, 1.5, "", "x" * 1000, [], [[]], {}, {"a": 1}, ["status"]]


def nonsense(chance: random.Random) -> bytes:
    """Something that is no request, or a harmless one."""
    field = chance.choice(["fast", "wait", "slots", "all", "command", ""])
    request = {
        "command": chance.choice(["recycle", "reload", "undrain", chance.choice(ODD)]),
        field: chance.choice(ODD),
    }
    line = json.dumps(request).encode() + b"\n"
    cut = chance.randrange(len(line) + 1)
    return chance.choice([
        chance.randbytes(chance.randrange(300)), line, line[:cut], line[cut:], b"[" * 70_000 + b"\n",
        b'{"a":' * 12_000 + b"\n", b"\n" * 500, b"\0" * 1000 + b"\n", STATUS * 50, b"x" * 300_000,
    ])  # fmt: skip


def test_no_nonsense_disturbs_the_master(fleet: Fleet) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    master = fleet.launch(WORK, ("work",))
    fleet.open()
    with contextlib.ExitStack() as left:
        for _ in range(400):
            line = left.enter_context(connected(fleet)) if chance.random() < 0.1 else socket.socket(socket.AF_UNIX)
            with contextlib.suppress(FileNotFoundError), contextlib.closing(line):
                line.settimeout(0.05)
                with contextlib.suppress(OSError):
                    line.connect(str(path_of(fleet)))
                with contextlib.suppress(OSError):
                    line.sendall(nonsense(chance))
                    line.recv(chance.choice([1, 1 << 16]))
    works(fleet, 1)
    assert master.process.poll() is None, f"seed {seed}"
    assert "Traceback" not in master.said(), f"seed {seed}: {master.said()}"


def test_a_thousand_connections_that_say_nothing_and_readers_that_do_not_read_hold_nobody_up(fleet: Fleet) -> None:
    fleet.launch(WORK, *[("work",)] * 2)
    fleet.open()
    with contextlib.ExitStack() as left:
        for number in range(1000):
            line = left.enter_context(connected(fleet))
            if number % 10 == 0:  # it asks and asks, and does not read
                line.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        line.send(STATUS * 100)
        works(fleet, 1)
        [master] = [program for program in fleet.programs if "run" in program.words]
        assert len(list(pathlib.Path(f"/proc/{master.pid}/fd").iterdir())) < 200
    works(fleet, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs(root): to ask as another user")
def test_another_user_is_not_answered_even_where_the_files_would_let_it(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",))
    assert path_of(fleet).stat().st_mode & 0o777 == 0o600
    for path in (path_of(fleet), path_of(fleet).parent, fleet.folder):
        path.chmod(0o777)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        with connected(fleet) as line, contextlib.suppress(ConnectionError):
            line.sendall(STATUS)
            os._exit(len(line.recv(1)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "an answer, or no connection at all"
    path_of(fleet).parent.chmod(0o700)


def test_a_client_that_pauses_gets_all_its_answers_whole(fleet: Fleet) -> None:
    """Together they are more than a socket takes in one go: the master waits until it reads on."""
    names = [f"{'long' * 12}{number}" for number in range(200)]
    source = "".join(f"@task(queue={name!r})\ndef {name}(n: int) -> None: ...\n\n" for name in names)
    fleet.launch(source, *[tuple(names)] * 2)
    with connected(fleet) as line:
        line.sendall(STATUS * 60)
        wait_for(lambda: line.recv(1, socket.MSG_PEEK), "the first answer to begin")
        assert fleet.status()["stage"] == "running"
        answers = line.makefile("rb")
        found = [answers.readline() for _ in range(60)]
    assert sum(map(len, found)) > 1 << 20
    assert all(len(json.loads(each)["slots"]) == 2 for each in found)


def test_signals_still_end_a_master_that_somebody_waits_for(fleet: Fleet) -> None:
    master = fleet.launch(PACK, ("work",))
    with connected(fleet) as line:
        line.sendall(b'{"command": "drain", "wait": false}\n' + STATUS[:5])
        assert line.recv(100)
        master.signal(signal.SIGTERM)
        assert master.ended() == 0
        assert line.recv(100) == b""
    assert APP in master.words
