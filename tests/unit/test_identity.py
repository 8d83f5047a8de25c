"""What a master takes for its own predecessors'."""

import os
import pathlib
import shutil

import pytest

from qmaster import linux
from qmaster.identity import Identity, assume, boards_of
from qslots.settings import ServerSettings


def test_scoreboards_of_a_server_whose_name_begins_alike_are_left_alone(tmp_path: pathlib.Path) -> None:
    for name in ("web.1a-2b-3c.board", "web.1a-2b-4d.board", "web.eu.1a-2b-3c.board", "web.lock", "webs.1-2-3.board"):
        (tmp_path / name).touch()
    assert [path.name for path in boards_of("web", tmp_path)] == ["web.1a-2b-3c.board", "web.1a-2b-4d.board"]
    assert [path.name for path in boards_of("web.eu", tmp_path)] == ["web.eu.1a-2b-3c.board"]


def begun(runtime: pathlib.Path) -> Identity:
    """A master of this folder that has ended without good order."""
    identity = assume(ServerSettings(name="web", runtime_dir=str(runtime)))
    os.close(identity.lock)
    os.close(identity.alone)
    return identity


def test_a_successor_here_knows_its_predecessor_by_the_place(tmp_path: pathlib.Path) -> None:
    first = begun(tmp_path)
    second = begun(tmp_path)
    assert second.place == first.place and second.left == [first.board_path]


def test_a_copy_of_the_folder_is_another_place_and_its_scoreboards_say_nothing(tmp_path: pathlib.Path) -> None:
    first = begun(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    clone = begun(tmp_path / "two")
    assert clone.place != first.place and clone.left == []
    assert boards_of("web", tmp_path / "two") == [clone.board_path]
    assert first.board_path.exists()


def test_after_a_reboot_it_is_another_place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begun(tmp_path)
    monkeypatch.setattr(linux, "boot_id", lambda: "another")  # the kernel's, which no test can change
    assert begun(tmp_path).place != first.place
