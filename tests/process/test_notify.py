"""What systemd hears of a real master, over a real socket: ready when it can work, alive while its loop turns."""

import contextlib
import os
import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest
from process.fleet import APP, PRELUDE, START, Fleet, children_of
from support.waiting import wait_for

SLOW = """\
gate("load")


@task
def work(n: int) -> None:
    note("begin", n, *sorted(set(os.environ) & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}))
    gate("open")
"""


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.lines: list[str] = []

    def heard(self) -> list[str]:
        """All lines until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines += self._socket.recv(4096).decode().splitlines()
        return self.lines

    def names(self) -> list[str]:
        return [line.partition("=")[0] for line in self.heard()]

    def wait(self, line: str) -> None:
        wait_for(lambda: line in self.heard(), lambda: f"{line} among {self.lines}", START)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(fleet: Fleet) -> Iterator[Systemd]:
    made = Systemd(fleet.folder / "notify")
    fleet.environ |= {"NOTIFY_SOCKET": str(made.path), "WATCHDOG_USEC": "400000"}
    yield made
    made.close()


def launch_slow(fleet: Fleet) -> None:
    """Its application loads when the gate is opened."""
    fleet.open("load")  # for this process, which imports it too
    fleet.write_app(SLOW)
    (fleet.folder / "load").unlink()
    fleet.publish(("work",))


def test_ready_comes_when_the_mold_is_loaded_and_stopping_when_it_is_told_to_stop(
    fleet: Fleet, systemd: Systemd
) -> None:
    launch_slow(fleet)
    master = fleet.start_master()
    wait_for(lambda: "EXTEND_TIMEOUT_USEC" in systemd.names() and "WATCHDOG" in systemd.names(), fleet.all_said, START)
    wait_for(lambda: fleet.status().get("stage") == "starting", fleet.all_said, START)
    assert "READY=1" not in systemd.heard()
    assert any(line.startswith("STATUS=starting") for line in systemd.lines)
    fleet.open("load")
    systemd.wait("READY=1")
    wait_for(lambda: any("running, gen 1, 1" in line for line in systemd.heard()), lambda: str(systemd.lines), START)
    fleet.app.work.enqueue(1)
    fleet.wait_run("begin", 1)
    assert [run.words for run in fleet.runs("begin")] == [("begin", "1")], "slots know the address"
    del systemd.lines[:]
    master.signal(signal.SIGTERM)
    systemd.wait("STOPPING=1")
    assert "EXTEND_TIMEOUT_USEC=20000000" in systemd.heard()
    fleet.open()
    assert master.ended(START) == 0
    assert systemd.names().count("READY") == 0
    assert systemd.names().count("STOPPING") == 1


@pytest.mark.usefixtures("systemd")
def test_nobody_but_the_master_has_the_address(fleet: Fleet) -> None:
    launch_slow(fleet)
    fleet.open("load")
    fleet.start_master()
    fleet.slots(1)
    for pid in children_of(fleet):
        assert b"NOTIFY_SOCKET" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()


def test_a_master_that_stands_still_beats_no_more(fleet: Fleet, systemd: Systemd) -> None:
    launch_slow(fleet)
    fleet.open("load")
    master = fleet.start_master()
    systemd.wait("READY=1")
    systemd.wait("WATCHDOG=1")
    master.signal(signal.SIGSTOP)
    stopped = wait_for(
        lambda: pathlib.Path(f"/proc/{master.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it", START
    )
    assert stopped
    systemd.heard()
    del systemd.lines[:]
    with pytest.raises(AssertionError, match="in vain"):
        wait_for(lambda: systemd.heard(), "a beat", 1.0)
    os.kill(master.pid, signal.SIGCONT)
    systemd.wait("WATCHDOG=1")


def test_a_reload_is_told_of_until_the_new_mold_is_ready_or_refused(fleet: Fleet, systemd: Systemd) -> None:
    launch_slow(fleet)
    fleet.open("load")
    master = fleet.start_master()
    systemd.wait("READY=1")
    for code in (SLOW, "syntax error"):
        (fleet.folder / f"{APP}.py").write_text(PRELUDE + code)
        del systemd.lines[:]
        master.signal(signal.SIGHUP)
        systemd.wait("RELOADING=1")
        systemd.wait("READY=1")
        assert systemd.names().index("RELOADING") < systemd.names().index("READY")
        wait_for(lambda: fleet.status()["reload"]["stage"] in ("done", "failed"), fleet.all_said, START)


def test_a_beat_for_somebody_else_is_not_ours(fleet: Fleet, systemd: Systemd) -> None:
    launch_slow(fleet)
    fleet.open("load")
    fleet.start_master({"WATCHDOG_PID": "1"})
    systemd.wait("READY=1")
    fleet.slots(1)
    assert "WATCHDOG" not in systemd.names()
