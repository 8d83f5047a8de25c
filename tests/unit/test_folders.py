"""Folders for one user alone, in places where others may write."""

import os
import pathlib

import pytest

from qslots.daemon.folders import User, own_folder
from qslots.errors import SettingsError

SETTING = "server.runtime_dir"
NOBODY = 65534


@pytest.fixture
def shared(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder like /dev/shm."""
    folder = tmp_path / "shm"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_a_folder_is_made_for_its_user_alone_and_found_again(shared: pathlib.Path) -> None:
    for _ in range(2):
        assert own_folder(shared / "a" / "b", SETTING) == shared / "a" / "b"
    assert (shared / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_link_of_ones_own_is_followed(shared: pathlib.Path) -> None:
    (shared / "real").mkdir(mode=0o700)
    (shared / "link").symlink_to("real")
    own_folder(shared / "link", SETTING)


def refused(path: pathlib.Path, owner: User | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        own_folder(path, SETTING, owner)
    assert SETTING in str(caught.value)
    return str(caught.value)


def test_a_folder_that_others_may_write_to_is_refused(shared: pathlib.Path) -> None:
    (shared / "a").mkdir()
    (shared / "a").chmod(0o770)
    assert "not this user's alone" in refused(shared / "a")


def test_a_folder_that_others_could_replace_is_refused(shared: pathlib.Path) -> None:
    shared.chmod(0o777)
    assert f"others could replace {shared}" in refused(shared / "a")


def test_a_file_in_its_place_is_refused(shared: pathlib.Path) -> None:
    (shared / "a").touch()
    assert "File exists" in refused(shared / "a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
@pytest.mark.parametrize("kind", ["folder", "folder above", "link", "link above"])
def test_what_another_user_has_put_there_first_is_refused(shared: pathlib.Path, kind: str) -> None:
    first = shared / "a"
    target = shared / "victim"
    target.mkdir(mode=0o700)
    if kind.startswith("link"):
        first.symlink_to(target)
    else:
        first.mkdir(mode=0o700)
    os.chown(first, NOBODY, NOBODY, follow_symlinks=False)
    said = refused(first / "b" if kind.endswith("above") else first)
    assert "not this user's alone" in said or f"others could replace {first}" in said or "Permission denied" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_root_makes_a_folder_for_another_user_but_gives_nothing_away_that_this_user_has_put_there(
    shared: pathlib.Path,
) -> None:
    nobody = User("nobody", NOBODY, NOBODY, "/")
    own_folder(shared / "a", SETTING, nobody)
    own_folder(shared / "a", SETTING, nobody)
    assert (shared / "a").stat().st_uid == NOBODY
    precious = shared / "a" / "precious"
    precious.mkdir(mode=0o700)  # root's, where the other user can put it in another one's place
    refused(precious, nobody)
    assert precious.stat().st_uid == 0
