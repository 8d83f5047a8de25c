"""Which row of the map a master obeys, and the file that keeps it."""

import pathlib

import msgspec
import pytest

from qmaster import state
from qmaster.lastmap import LastMap
from qmaster.letters import Done, Failed
from qslots.reports import MapRow

URL = "redis://here"


def row(epoch: int, seq: int = 1) -> MapRow:
    return MapRow(epoch, seq, "m", (("a", "b"), ()))


def test_the_newest_row_wins_also_over_one_of_a_queue_server_that_has_lost_its_data() -> None:
    last = LastMap(None, "web", row(7))
    for heard in (row(6, 9), None, row(7)):
        last.heard(heard)
        assert last.in_force(away=False) == row(7)
    last.heard(row(7, 2))
    last.heard(row(7))
    assert last.row == row(7, 2)
    last.heard(row(8, 0))
    assert last.row == row(8, 0)


def test_a_row_from_the_file_counts_when_nobody_can_be_asked_or_nobody_knows_better() -> None:
    last = LastMap(None, "web", row(7))
    assert last.in_force(away=False) is None
    assert last.in_force(away=True) == row(7)
    assert last.in_force(away=False) == row(7)  # it is back, and was not asked yet: no slot may be sent away
    last = LastMap(None, "web", row(7))
    last.heard(None)
    assert last.in_force(away=False) == row(7)


def test_a_manager_that_is_gone_is_told_of_once_and_so_is_the_next(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "qmaster")
    last = LastMap(None, "web", row(7))
    for planned in (None, 0.5, 59.0, 61.0, 62.0, 3.0, 2.0):
        last.heard(None, planned=planned)
    assert [record.getMessage() for record in caplog.records] == [
        "no manager has published for 61 s: slots go on with the last map", "a manager publishes again",
    ]  # fmt: skip


def test_a_row_is_written_once_and_again_after_a_failure(tmp_path: pathlib.Path) -> None:
    last = LastMap(tmp_path / "web.state", "web", row(7))
    assert last.unsaved(URL) is None
    last.heard(row(8))
    letter = last.unsaved(URL)
    assert letter is not None and letter.state == state.State("web", URL, row(8))
    last.was_saved(Failed("refused", "full"), row=row(8))
    assert last.unsaved(URL) == letter
    last.was_saved(Done(), row=row(8))
    assert last.unsaved(URL) is None


def test_an_answer_that_comes_late_does_not_hide_a_newer_row(tmp_path: pathlib.Path) -> None:
    last = LastMap(tmp_path / "web.state", "web", None)
    last.heard(row(8))
    last.heard(row(9))
    last.was_saved(Done(), row=row(8))
    letter = last.unsaved(URL)
    assert letter is not None and letter.state.row == row(9)


def test_a_state_file_says_again_what_was_written_and_is_its_users_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "web.state"
    for each in (row(1), row(2)):
        state.write(path, state.State("web", URL, each))
        assert state.read(path, "web", URL) == each
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["web.state"]


@pytest.mark.parametrize(("server", "url"), [("other", URL), ("web", "redis://there")])
def test_what_belongs_to_another_is_set_aside(tmp_path: pathlib.Path, server: str, url: str) -> None:
    path = tmp_path / "web.state"
    state.write(path, state.State(server, url, row(1)))
    assert state.read(path, "web", URL) is None
    assert [file.name for file in tmp_path.iterdir()] == ["web.state.aside"]


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_what_is_damaged_is_set_aside(tmp_path: pathlib.Path, cut: int) -> None:
    path = tmp_path / "web.state"
    path.write_bytes(msgspec.json.encode(state.State("web", URL, row(1)))[:cut])
    assert state.read(path, "web", URL) is None
    assert state.read(path, "web", URL) is None  # and it is not in the way


def test_what_is_no_text_is_set_aside(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "web.state"
    path.write_bytes(msgspec.json.encode(state.State("web", URL, row(1))).replace(b"web", b"\xff\xff\xff"))
    assert state.read(path, "web", URL) is None
    assert [file.name for file in tmp_path.iterdir()] == ["web.state.aside"]
