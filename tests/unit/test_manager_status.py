"""Whether a manager is of use, and what its sign of life says: tables, and files of this test."""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from support.waiting import wait_for

from qmanager import place
from qmanager.desk import Vitals
from qmanager.place import Place, Sign, folder_of, sign_in
from qmanager.statuscommand import overdue, text
from qslots.errors import Error, SettingsError
from qslots.settings import ManagerSettings, ServerSettings, Settings

ANSWER = Vitals("web-7/4711", "redis://one", stage="reigning", epoch=12, seq=3, since=1000.0).document()


@pytest.mark.parametrize(
    ("changed", "useful"),
    [
        ({"age": 7.9}, True),
        ({"age": 8.1}, False),
        ({"age": None, "since": 1093.0}, True),  # it has begun a moment ago
        ({"age": None}, False),
        ({"age": None, "stage": "standby"}, True),
        ({"age": 100.0, "stage": "standby"}, True),
    ],
)
def test_of_use_is_who_has_published_or_begun_lately_or_stands_by(changed: dict[str, object], useful: bool) -> None:
    assert (overdue(ANSWER | changed, 8.0, now=1100.0) == "") is useful


def test_the_text_says_what_matters() -> None:
    assert text(ANSWER | {"age": 0.4, "cycle": 0.0123, "servers": 1, "queues": 5}, 1060.0) == (
        "web-7/4711 reigns with epoch 12, since 60 s\n"
        "map 3 published 0.4 s ago for 1 server and 5 queues, in a cycle of 0.012 s"
    )
    waits = text(ANSWER | {"stage": "starting", "epoch": None, "queue_server_down": "it is away", "faults": 2}, 1001.0)
    assert waits.splitlines() == [
        "web-7/4711 waits for its first contact, since 1 s", "it is away",
        "2 cycles in a row have failed: see the log",
    ]  # fmt: skip
    assert "stands by" in text(ANSWER | {"stage": "standby"}, 1001.0)


@pytest.mark.parametrize("line", ["", "1", "1 2", "x y z", "\0"])
def test_a_sign_that_cannot_be_read_is_none(tmp_path: pathlib.Path, line: str) -> None:
    (tmp_path / "alive").write_text(line)
    assert sign_in(tmp_path) is None


def test_a_sign_that_is_no_file_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "alive").mkdir()
    assert sign_in(tmp_path) is None
    assert sign_in(tmp_path / "alive" / "none") is None


def at(folder: pathlib.Path) -> Settings:
    return Settings(manager=ManagerSettings(runtime_dir=str(folder)))


def test_a_place_has_one_manager_and_a_sign_until_it_is_closed(tmp_path: pathlib.Path) -> None:
    first = Place(at(tmp_path))
    sign = sign_in(tmp_path)
    assert sign is not None and sign.pid == os.getpid() and sign.lives()
    with pytest.raises(Error, match=rf"is running here \(pid {os.getpid()}\)"):
        Place(at(tmp_path))
    first.say(123.456)
    assert (tmp_path / "alive").read_text().endswith(" 123.46 3\n")
    first.close()
    assert sign_in(tmp_path) is None
    Place(at(tmp_path)).close()


def test_whose_folder_was_removed_leaves_alone_what_lies_there_later(tmp_path: pathlib.Path) -> None:
    first = Place(at(tmp_path / "place"))
    (tmp_path / "place").rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    second = Place(at(tmp_path / "place"))
    with pytest.raises(FileNotFoundError):
        first.say(1.0)
    first.close()
    assert sign_in(tmp_path / "place") is not None
    second.close()


def test_a_manager_that_lives_keeps_its_place_also_without_its_lock(tmp_path: pathlib.Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        tmp_path.chmod(0o700)
        (tmp_path / "alive").write_text(f"{process.pid} {place._start_of(process.pid)} 0\n")
        with pytest.raises(Error, match=rf"is running here \(pid {process.pid}\)"):
            Place(at(tmp_path))
        process.kill()
    Place(at(tmp_path)).close()


def test_a_place_that_others_could_write_to_is_refused(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SettingsError, match=r"manager\.runtime_dir"):
        Place(at(tmp_path))


def test_a_sign_is_of_one_process_and_not_of_the_next_with_its_pid() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        start = place._start_of(process.pid)
        assert Sign(process.pid, start, 0.0).lives()
        assert not Sign(process.pid, start + 1, 0.0).lives()
        process.send_signal(signal.SIGKILL)
        wait_for(lambda: not Sign(process.pid, start, 0.0).lives(), "a zombie that counts as dead", 5.0)


def test_the_folder_is_as_set_or_below_that_of_masters(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of(at(tmp_path)) == tmp_path
    assert folder_of(Settings(server=ServerSettings(runtime_dir=str(tmp_path)))) == tmp_path / "manager"
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".qslots" / "run").mkdir(parents=True)
    (tmp_path / ".qslots" / "redis.sock").touch()
    assert folder_of(Settings()) == tmp_path / ".qslots" / "run" / "manager"
