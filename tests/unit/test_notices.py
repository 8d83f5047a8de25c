"""What systemd hears, and when: states once, the status when it changes, beats and extensions by the clock."""

import os
import pathlib
import socket

import pytest

from qslots.daemon.notices import Notices, ServiceManager, State


def told(notices: Notices, state: State, status: str, now: float) -> list[str]:
    lines = notices.due(state, status, now)
    notices.said(lines, state, status, now)
    return lines


def test_a_life() -> None:
    notices = Notices()
    assert told(notices, State.STARTING, "starting", 100) == ["STATUS=starting", "EXTEND_TIMEOUT_USEC=20000000"]
    assert told(notices, State.STARTING, "starting", 104) == []
    assert told(notices, State.STARTING, "starting", 105) == ["EXTEND_TIMEOUT_USEC=20000000"]
    assert told(notices, State.RUNNING, "running", 105.1) == ["READY=1", "STATUS=running"]
    assert told(notices, State.RUNNING, "running", 200) == []
    extension = "EXTEND_TIMEOUT_USEC=20000000"
    assert told(notices, State.RELOADING, "running", 200) == ["RELOADING=1", "MONOTONIC_USEC=200000000", extension]
    assert told(notices, State.RELOADING, "running", 204) == []
    assert told(notices, State.RELOADING, "running", 205) == [extension]
    assert told(notices, State.RUNNING, "running", 230) == ["READY=1"]
    assert told(notices, State.STOPPING, "stopping", 230) == [
        "STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=20000000"
    ]  # fmt: skip
    assert notices.next() == 235


def test_a_status_that_changes_all_the_time_is_told_once_a_second() -> None:
    notices = Notices()
    told(notices, State.RUNNING, "0", 100)
    said = [line for tenth in range(50) for line in told(notices, State.RUNNING, str(tenth), 100.05 + tenth / 10)]
    assert len(said) == 4


def test_beats_come_by_the_clock() -> None:
    notices = Notices(beat_every=5.0)
    assert told(notices, State.RUNNING, "", 100) == ["READY=1", "WATCHDOG=1"]
    assert notices.next() == 105
    assert told(notices, State.RUNNING, "", 104.9) == []
    assert told(notices, State.RUNNING, "", 105) == ["WATCHDOG=1"]


def test_what_could_not_be_said_stays_due() -> None:
    notices = Notices(beat_every=5.0)
    assert notices.due(State.RUNNING, "a", 100) == notices.due(State.RUNNING, "a", 100)
    assert "READY=1" in notices.due(State.RUNNING, "b", 101)


def heard(address: str, environ: dict[str, str]) -> list[str]:
    """All lines of a first message."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.setblocking(False)
        ServiceManager({"NOTIFY_SOCKET": address, **environ}).check(State.RUNNING, "well", 1000.0)
        return manager.recv(4096).decode().splitlines()


def test_a_socket_with_a_path_and_one_without(tmp_path: pathlib.Path) -> None:
    assert heard(str(tmp_path / "n"), {}) == ["READY=1", "STATUS=well"]
    assert heard(f"@qslots-test-{os.getpid()}", {}) == ["READY=1", "STATUS=well"]


@pytest.mark.parametrize(
    ("environ", "beats"),
    [
        ({"WATCHDOG_USEC": "3000000"}, True),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
def test_beats_are_for_who_is_asked_for_them(environ: dict[str, str], beats: bool, tmp_path: pathlib.Path) -> None:
    assert ("WATCHDOG=1" in heard(str(tmp_path / "n"), environ)) is beats


def test_the_address_is_for_the_daemon_alone() -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "HOME": "/"}
    ServiceManager(environ)
    assert environ == {"HOME": "/"}


def test_without_a_service_manager_nothing_is_due() -> None:
    assert ServiceManager({}).check(State.RUNNING, "", 1.0) == float("inf")
    assert ServiceManager({"NOTIFY_SOCKET": "vsock:1:2"}).check(State.RUNNING, "", 1.0) == float("inf")


def test_a_service_manager_that_is_away_or_does_not_read_is_told_later(tmp_path: pathlib.Path) -> None:
    us = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "n")})
    assert us.check(State.RUNNING, "", 1000.0) == 1001.0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.setblocking(False)
        now = 1001.0
        while us.check(State.RUNNING, str(now), now) != now + 1.0:  # until nothing more can be sent
            now += 1.0
        assert manager.recv(4096).decode().splitlines() == ["READY=1", "STATUS=1001.0"]
        assert us.check(State.STOPPING, "", now) < now + 6.0
