"""The shared file: what one process writes another reads; sizes and places that never move; files refused."""

import itertools
import os
import pathlib
import stat
from collections.abc import Iterator

import pytest

from qslots.errors import Error
from qslots.reports import MOST_SLOTS
from qslots.scoreboard import _MARKS_START, _PLACES, _RECORD, _WORDS, MARKS, Field, Scoreboard, boot_ns
from qslots.states import SlotState

SIZE = 4096 + MOST_SLOTS * _RECORD


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "board")


@pytest.fixture
def board(path: str) -> Iterator[Scoreboard]:
    made = Scoreboard.create(path)
    yield made
    os.close(made.descriptor)


def test_file_is_private_sparse_and_of_its_final_size(board: Scoreboard, path: str) -> None:
    board.record(MOST_SLOTS - 1).clear(holder="last")
    found = pathlib.Path(path).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == SIZE
    assert found.st_blocks * 512 < SIZE // 8


def test_nothing_that_is_there_is_reused_or_followed(path: str) -> None:
    pathlib.Path(path).write_bytes(b"")
    with pytest.raises(FileExistsError):
        Scoreboard.create(path)
    pathlib.Path(path).unlink()
    pathlib.Path(path).symlink_to("/nowhere/board")
    with pytest.raises(FileExistsError):
        Scoreboard.create(path)
    with pytest.raises(OSError, match="symbolic"):
        Scoreboard.open(path)


def test_file_of_another_size_or_version_is_refused_with_the_remedy(path: str) -> None:
    pathlib.Path(path).write_bytes(b"x")
    with pytest.raises(Error, match="another size than this version writes; remove it"):
        Scoreboard.open(path)
    os.truncate(path, 0)
    os.truncate(path, SIZE)
    with pytest.raises(Error, match="of another version; remove it"):
        Scoreboard.open(path)


def test_parts_of_a_record_do_not_overlap() -> None:
    numbers = [(field.value * 8, field.value * 8 + 8) for field in Field]
    texts = [(start, start + room) for start, room in _PLACES.values()]
    parts = sorted([*numbers, *texts, (_MARKS_START, _MARKS_START + MARKS)])
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(parts))
    assert parts[-1][1] <= _RECORD
    assert len(numbers) == len(set(numbers)) == _WORDS


def test_records_do_not_touch_their_neighbours(board: Scoreboard) -> None:
    one, two, three = (board.record(index) for index in (0, 1, 2))
    two.clear(holder="x" * 500, generation=-1)
    two.put_text("task", b"t" * 500)
    two.marks[:] = b"\1" * MARKS
    for number in range(_WORDS):
        two.words[number] = -1
    for record in (one, three):
        assert bytes(record.marks) == bytes(MARKS)
        assert list(record.words) == [0] * _WORDS
        assert record.text("holder") == record.text("task") == ""
    for index in (-1, MOST_SLOTS):
        with pytest.raises(IndexError):
            board.record(index)


def test_texts_come_back_and_are_cut_to_their_room(board: Scoreboard) -> None:
    record = board.record(7)
    for name, (_, room) in _PLACES.items():
        record.put_text(name, f"{name}-ä".encode())
        assert record.text(name) == f"{name}-ä"
        record.put_text(name, b"y" * 1000)
        assert record.text(name) == "y" * (room - 1)
    record.put_text("task", b"")
    assert record.text("task") == ""


def test_longest_source_has_room(board: Scoreboard) -> None:
    longest = f"{'q' * 64}@{'s' * 64}"
    board.record(0).put_text("asked_source", longest.encode())
    assert board.record(0).text("asked_source") == longest


def test_doubts_come_back_as_far_as_there_is_room(board: Scoreboard) -> None:
    record = board.record(1)
    assert record.doubts() == {}
    record.put_doubts({"mail@a": 3, "mail@b": 12})
    assert record.doubts() == {"mail@a": 3, "mail@b": 12}
    many = {f"{n}-{'q' * 60}@somewhere": 1000 + n for n in range(9)}
    record.put_doubts(many)
    assert record.doubts() == dict(list(many.items())[:3])
    record.put_text("doubts", b"12 mail@a x y 7")  # torn
    assert record.doubts() == {"mail@a": 12}
    record.put_doubts({})
    assert record.doubts() == {}


def test_torn_text_is_read_without_a_fault(board: Scoreboard) -> None:
    record = board.record(0)
    record.put_text("task", "aäöü".encode())
    start = 4096 + _PLACES["task"][0]
    for length in range(256):  # whatever stands there while the slot writes
        os.pwrite(board.descriptor, bytes([length]), start)
        assert len(record.text("task")) < _PLACES["task"][1]
    os.pwrite(board.descriptor, b"\xff" * 129, start)
    assert "�" in record.text("task")


def test_life_of_a_pack(board: Scoreboard) -> None:
    record, words = board.record(3), board.record(3).words
    record.clear(holder="web:3:1", generation=2)
    assert (record.text("holder"), words[Field.GENERATION], words[Field.STATE]) == ("web:3:1", 2, SlotState.STARTING)
    record.marks[:9] = b"\1" * 9
    record.hold(5, b"mail@main", b"send", 4)
    assert (words[Field.HELD], words[Field.SIZE], bytes(record.marks[:5])) == (5, 4, b"\0\0\0\0\1")
    assert (record.text("held_source"), record.text("handler")) == ("mail@main", "send")
    record.begin(2, 100, 200, b"t")
    assert (words[Field.TASK], words[Field.START], words[Field.DEADLINE]) == (2, 100, 200)
    record.over()
    assert (words[Field.TASK], words[Field.DEADLINE]) == (2, 0)
    record.end()
    assert (words[Field.TASK], words[Field.DEADLINE]) == (0, 0)
    words[Field.UNTOLD] = 70
    assert record.untold(100) == 30
    words[Field.UNTOLD] = -40
    assert record.untold(100) == 40
    record.drop()
    assert (words[Field.HELD], record.untold(100)) == (0, 0)
    record.clear()
    assert (list(words), record.text("holder"), words[Field.STATE]) == ([0] * _WORDS, "", SlotState.ABSENT)


def test_trust_is_the_later_of_what_slot_and_master_know(board: Scoreboard) -> None:
    record = board.record(0)
    record.words[Field.LOCK_UNTIL], record.words[Field.EXTENDED_UNTIL] = 5, 3
    assert record.trusted_until() == 5
    record.words[Field.EXTENDED_UNTIL] = 9
    assert record.trusted_until() == 9


def test_another_process_sees_the_writes_and_they_outlive_it(board: Scoreboard, path: str) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            record = Scoreboard.open(path).record(5)
            record.clear(holder="child", generation=4)
            record.hold(9, b"q@main", b"h", 3)
            record.marks[1] = 1
            record.words[Field.LOCK_UNTIL] = 1 << 62
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    record = board.record(5)
    assert (record.text("holder"), record.words[Field.HELD], bytes(record.marks[:3])) == ("child", 9, b"\0\1\0")
    assert record.words[Field.LOCK_UNTIL] == 1 << 62


def test_tenants_are_the_records_that_name_a_holder(board: Scoreboard) -> None:
    for index in (0, 17, MOST_SLOTS - 1):
        board.record(index).clear(holder=f"h{index}")
    board.record(17).clear()
    assert [record.index for record in board.tenants()] == [0, MOST_SLOTS - 1]


def test_clock_counts_suspended_time_and_never_goes_back() -> None:
    assert 0 < boot_ns() <= boot_ns()
