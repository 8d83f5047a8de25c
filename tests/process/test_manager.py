"""The manager as a daemon: one a folder, at work without its queue server, asked how it is, ended if it hangs."""

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import pytest
from process.fleet import START, Fleet, Program, lives
from process.test_notify import Systemd
from support.deaf import DeafLine
from support.waiting import wait_for

from qslots import embedded, keys
from qslots.control import Control
from qslots.reports import MapRow, Plan

NOWHERE = "redis://127.0.0.1:1"
FAST = "from qmanager import watchdog; watchdog.TURN = 0.5; watchdog.AFTER_STACKS = 0.5\n"


def elsewhere(fleet: Fleet, name: str) -> dict[str, str]:
    """As on another machine."""
    return {"QSLOTS_MANAGER_RUNTIME_DIR": str(fleet.folder / name)}


def status(fleet: Fleet, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, document, and what was said on stderr."""
    program = fleet.start("qmanager", "status", "--json", *options)
    code = program.ended(START)
    return code, json.loads(program.out.read_text() or "{}"), program.err.read_text()


def seq(fleet: Fleet) -> int | None:
    """The newest map that the manager has published."""
    found: int | None = fleet.status(fleet.folder / "run" / "manager" / "control.sock").get("seq")
    return found


def reigning(fleet: Fleet, *options: str) -> Program:
    manager = fleet.start("qmanager", "run", *options)
    wait_for(lambda: seq(fleet), fleet.all_said, START)
    return manager


def test_status_says_how_it_is_and_its_exit_code_whether_it_runs(fleet: Fleet) -> None:
    code, document, said = status(fleet)
    assert (code, document) == (3, {}) and said.startswith("qmanager: no qmanager is running here: ")
    manager = reigning(fleet)
    code, document, said = status(fleet, "--deep", "8s")
    assert (code, said) == (0, "")
    assert document["pid"] == manager.pid and document["stage"] == "reigning"
    assert 0 <= document["age"] < 8 and document["cycle"] > 0
    assert document["queue_server_down"] == "" and document["faults"] == 0
    assert int(fleet.client.redis.hget(keys.EPOCH, "epoch") or 0) == document["epoch"]
    manager.signal(signal.SIGTERM)
    assert manager.ended() == 0
    assert status(fleet)[0] == 3


def test_a_manager_that_was_killed_or_does_not_answer_has_failed(fleet: Fleet) -> None:
    manager = reigning(fleet)
    alive = (fleet.folder / "run" / "manager" / "alive").read_text()
    manager.signal(signal.SIGKILL)
    manager.ended()
    code, _, said = status(fleet)
    assert code == 1 and said.endswith(f"the last one (pid {manager.pid}) was killed; start it with `qmanager run`\n")
    assert int(alive.split()[0]) == manager.pid
    again = reigning(fleet, "--take-over")  # what the dead one has left is in nobody's way
    again.signal(signal.SIGSTOP)
    code, _, said = status(fleet)
    assert code == 1 and "did not answer within 8 s" in said
    again.signal(signal.SIGCONT)
    (fleet.folder / "run" / "manager" / "control.sock").unlink()
    code, _, said = status(fleet)
    assert code == 1 and f"qmanager (pid {again.pid}) runs, and does not listen" in said


def test_a_second_one_of_the_folder_is_refused_in_one_line(fleet: Fleet) -> None:
    manager = reigning(fleet)
    second = fleet.start("qmanager", "run", "--take-over")
    assert second.ended() == 1
    assert second.said() == (
        f"qmanager: a qmanager is running here (pid {manager.pid}): stop it, or give this one another folder with "
        "manager.runtime_dir\n"
    )
    assert manager.process.poll() is None


def test_it_starts_without_its_queue_server_and_reigns_when_that_comes(bare_fleet: Fleet) -> None:
    fleet = bare_fleet
    url = f"unix://{fleet.folder}/redis/redis.sock"
    manager = fleet.start("qmanager", "run", "--redis", url)
    wait_for(lambda: "asking on until it does" in manager.said(), fleet.all_said, START)
    code, document, _ = status(fleet)
    assert (code, document["stage"], document["epoch"], document["age"]) == (0, "starting", None, None)
    assert "does not answer" in document["queue_server_down"]
    code, _, said = status(fleet, "--deep", "10ms")
    assert code == 1 and said.startswith("qmanager: no map was published yet; queue server unix://")
    fleet.start_redis()
    assert fleet.redis is not None and fleet.redis.url == url
    wait_for(lambda: seq(fleet), fleet.all_said, START)
    assert manager.said().count("does not answer") == 1


def test_a_manager_that_was_cut_off_before_it_knew_the_map_in_force_begins_anew(fleet: Fleet) -> None:
    control = Control(fleet.client)
    before = control.take_epoch("former", 0, respect=0.0, take_over=True)
    control.publish(Plan(before, 1, "former", 0.0, ()), {"lost": MapRow(before, 1, "former", (("work",),))}, [])
    assert fleet.redis is not None
    line = DeafLine(fleet.folder, fleet.redis.url.removeprefix("unix://"))
    line.breaks_at = b"HSCAN\r\n$6\r\nqs:map\r\n"
    manager = fleet.start("qmanager", "run", "--take-over", "--redis", line.url)
    wait_for(lambda: seq(fleet), fleet.all_said, START)
    assert manager.said().count("does not answer") == 1
    assert line.breaks_at == b""
    wait_for(lambda: "lost" not in control.rows(), fleet.all_said, START)  # only who knows of a row takes it away
    line.close()


def test_a_queue_server_that_cannot_be_used_ends_it_in_one_line(fleet: Fleet) -> None:
    fleet.client.redis.config_set("maxmemory", "100mb")
    fleet.client.redis.config_set("maxmemory-policy", "allkeys-lru")
    manager = fleet.start("qmanager", "run")
    assert manager.ended(START) == 1
    [line] = manager.err.read_text().splitlines()
    assert "maxmemory-policy" in line


def test_a_queue_server_that_hangs_is_no_reason_to_end_and_the_age_tells(fleet: Fleet) -> None:
    manager = reigning(fleet)
    assert fleet.redis is not None
    os.kill(fleet.redis.process.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: status(fleet, "--deep", "3s")[0] == 1, fleet.all_said, START)
        assert lives(manager.pid)
    finally:
        os.kill(fleet.redis.process.pid, signal.SIGCONT)
    wait_for(lambda: status(fleet, "--deep", "3s")[0] == 0, fleet.all_said, START)


def test_who_stands_by_follows_a_manager_that_publishes_no_more_and_not_before(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_INTERVAL"] = "200ms"
    first = reigning(fleet)
    second = fleet.start("qmanager", "run", "--standby", environ=elsewhere(fleet, "second"))
    wait_for(lambda: "stands by" in second.said(), fleet.all_said, START)
    before = seq(fleet) or 0
    wait_for(lambda: (seq(fleet) or 0) > before + 10, fleet.all_said, START)
    assert "reigns" not in second.said()
    first.signal(signal.SIGSTOP)
    wait_for(lambda: "reigns with epoch" in second.said(), fleet.all_said, START)
    first.signal(signal.SIGCONT)
    assert first.ended() == 1
    assert "the slot map is in other hands" in first.said()
    assert second.process.poll() is None


@pytest.mark.parametrize("hang", ["import ctypes; ctypes.PyDLL(None).pause()", "import time; time.sleep(60)"])
def test_a_manager_that_stands_still_is_ended_with_its_stacks_in_the_log(fleet: Fleet, hang: str) -> None:
    code = (
        f"{FAST}from qmanager import cli, loop\n"
        f"def stand(*_):\n    {hang}\n"
        "loop.Manager._planned = stand\n"
        "cli.main(['run'], prog_name='qmanager')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=fleet.environ | {"QSLOTS_INTERVAL": "100ms"}, cwd=fleet.folder,
        capture_output=True, text=True, timeout=START, check=False, preexec_fn=embedded.die_with_parent(signal.SIGKILL),
    )  # fmt: skip
    assert done.returncode == -signal.SIGALRM
    assert "Timeout (" in done.stderr and " in stand" in done.stderr


def test_systemd_hears_that_it_is_ready_and_that_its_loop_turns(fleet: Fleet) -> None:
    systemd = Systemd(fleet.folder / "notify")
    fleet.environ |= {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "400000"}
    manager = fleet.start("qmanager", "run", "--redis", NOWHERE)  # a queue server that is away makes no difference
    try:
        systemd.wait("READY=1")
        del systemd.lines[:]
        wait_for(lambda: systemd.names().count("WATCHDOG") > 2, fleet.all_said, START)
        assert b"NOTIFY_SOCKET" in pathlib.Path(f"/proc/{manager.pid}/environ").read_bytes()
        manager.signal(signal.SIGTERM)
        systemd.wait("STOPPING=1")
        assert manager.ended() == 0
    finally:
        systemd.close()


def checked(fleet: Fleet, *options: str) -> tuple[int, dict[str, Any]]:
    program = fleet.start("qmanager", "check", "--json", *options)
    return program.ended(START), json.loads(program.out.read_text())


def test_check_says_who_reigns_who_reports_and_what_is_wrong(fleet: Fleet) -> None:
    code, document = checked(fleet)
    assert (code, document["manager"], document["masters"]) == (0, None, [])
    assert document["warnings"] == ["no master reports: start qmaster on the servers"]
    assert not (fleet.folder / "run").exists()  # it has made nothing
    fleet.write_app("@task\ndef work() -> None: ...\n")
    fleet.start_master()
    manager = reigning(fleet)
    wait_for(lambda: fleet.live(), fleet.all_said, START)
    (fleet.folder / "more.yml").write_text("queues: {wrok: {priority: 60}}\n")
    code, document = checked(fleet, "-c", "more.yml")
    assert code == 0
    assert document["manager"]["epoch"] == document["masters"][0]["epoch"]
    assert document["manager"]["age"] < 5 and document["masters"][0]["age"] < 5
    assert document["runtime_dir"] == {"path": str(fleet.folder / "run" / "manager"), "pid": manager.pid}
    [row] = document["queue_servers"]
    assert row["version"] == ".".join(map(str, fleet.client.version())) and row["aof"] is True
    [line] = document["warnings"]
    assert "the settings name queue wrok" in line and "did you mean work?" in line
    shown = fleet.start("qmanager", "check")
    assert shown.ended(START) == 0
    assert f"newest map: epoch {document['manager']['epoch']} of manager" in shown.said()


def test_check_fails_where_no_manager_could_work(fleet: Fleet) -> None:
    fleet.client.redis.config_set("maxmemory-policy", "allkeys-lru")
    blocked = fleet.folder / "blocked"
    blocked.mkdir(mode=0o777)
    blocked.chmod(0o777)
    program = fleet.start("qmanager", "check", environ={"QSLOTS_MANAGER_RUNTIME_DIR": str(blocked)})
    assert program.ended(START) == 1
    assert program.said().count("\nerror: ") == 2
    assert "maxmemory-policy" in program.said() and str(blocked) in program.said()
    away = fleet.start("qmanager", "check", "--redis", NOWHERE)
    assert away.ended(START) == 1
    assert away.said().count("error: ") == 1 and f"queue server {NOWHERE} does not answer" in away.said()
