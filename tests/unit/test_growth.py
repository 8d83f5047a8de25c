"""Growth booked by handler, and late imports summed up."""

import os
import socket
import sys
from types import ModuleType

import pytest

from qmaster import upkeep
from qmaster.growth import Growth, Mark, booked, told
from qmaster.imported import MOST_KINDS, Imported
from qslots import orders
from qslots.late_imports import LateImports, roots
from qslots.orders import receive

M = 1 << 20
MANY = 1000  # modules
PAGE = 4096


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Mark("resize", 10, 4 * M), Mark("resize", 14, 12 * M), {"resize": Growth(8 * M, 4, frozenset({3}))}),
        (Mark("", 0, 4 * M), Mark("resize", 2, 6 * M), {"resize": Growth(2 * M, 2, frozenset({3}))}),  # since birth
        (Mark("resize", 10, 12 * M), Mark("resize", 11, 4 * M), {"resize": Growth(-8 * M, 1, frozenset({3}))}),
        (Mark("resize", 10, 4 * M), Mark("mail", 14, 12 * M), {}),  # whose growth is it?
        (Mark("resize", 10, 4 * M), Mark("resize", 10, 12 * M), {}),  # nothing has ended yet
        (Mark("", 0, 4 * M), Mark("", 0, 5 * M), {}),
    ],
)
def test_growth_is_booked_to_the_handler_that_was_served_meanwhile(
    before: Mark, after: Mark, expected: dict[str, Growth]
) -> None:
    assert booked({}, 3, before, after) == expected


def test_several_slots_and_measurements_add_up() -> None:
    books: dict[str, Growth] = {}
    for index in (0, 1, 0):
        books = booked(books, index, Mark("resize", 10, 4 * M), Mark("resize", 12, 8 * M))
    assert books == {"resize": Growth(12 * M, 6, frozenset({0, 1}))}
    assert books["resize"].a_task == 2 * M


def test_growth_in_words() -> None:
    assert told("resize", Growth(19 * M, 10)) == "resize: +1.9 MB a task"
    assert told("resize", Growth(30 << 10, 10)) == "resize: +3 kB a task"
    assert told("resize", Growth(-19 * M, 10)) == "resize: -1.9 MB a task"
    assert Growth().a_task == 0


def test_of_what_was_imported_the_packages_count_not_their_parts() -> None:
    assert roots(["pandas", "pandas.core", "numpy.linalg", "numpy.linalg.lapack", "late"]) == (
        "pandas",
        "numpy.linalg",
        "late",
    )


def test_slot_tells_of_what_a_pack_has_imported_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        late, kept = LateImports(theirs), bytearray()
        for now in (0, 1):
            late.begin(now)
            late.end()
        monkeypatch.setitem(sys.modules, "before", ModuleType("before"))  # by nobody's pack
        late.begin(2)
        monkeypatch.setitem(sys.modules, "late", ModuleType("late"))
        monkeypatch.setitem(sys.modules, "late.part", ModuleType("late.part"))
        kept += b"x" * (64 * M)
        late.end()
        late.begin(3)
        late.end()
        message = receive(ours)
        assert isinstance(message, orders.Imported)
        assert message.modules == ("late",)
        assert 48 * M < message.bytes < 96 * M
        with pytest.raises(BlockingIOError):
            receive(ours)


def test_to_tell_of_an_import_leaves_the_names_of_all_other_modules_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MANY):
        monkeypatch.setitem(sys.modules, f"{number}{'x' * 4000}", ModuleType("one"))  # each name on a page of its own
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            try:
                late = LateImports(theirs)
                late.begin(0)
                sys.modules["late"] = ModuleType("late")
                before = upkeep.grown()
                late.end()
                os._exit(0 if upkeep.grown() - before < MANY * PAGE // 4 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert isinstance(receive(ours), orders.Imported)


def test_late_import_is_told_of_once_a_generation_and_counted_for_each_slot() -> None:
    late = Imported()
    assert late.heard(1, 0, ("pandas", "numpy.linalg"), 38 * M) == (
        "imports after fork: pandas, numpy.linalg +38 MB a slot: import them at the top of the application"
    )
    assert late.heard(1, 1, ("pandas", "numpy.linalg"), 36 * M) == ""
    assert late.heard(1, 1, ("encodings.idna",), 20_000) == ""
    assert late.status() == [
        {"modules": ["pandas", "numpy.linalg"], "bytes": 38 * M, "slots": 2},
        {"modules": ["encodings.idna"], "bytes": 20_000, "slots": 1},
    ]
    assert "a, b, c, d, e and 2 more +2 MB" in late.heard(2, 0, tuple("abcdefg"), 2 * M)
    assert late.heard(1, 2, ("pandas",), 38 * M) == ""  # of a generation that goes
    assert [each["modules"] for each in late.status()] == [list("abcdefg")]


def test_ever_new_modules_do_not_fill_the_log() -> None:
    late = Imported()
    assert sum(bool(late.heard(1, 0, (f"m{n}",), 2 * M)) for n in range(100)) == MOST_KINDS
    assert len(late.status()) == MOST_KINDS
