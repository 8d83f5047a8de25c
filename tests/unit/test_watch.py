"""What the master takes for a task over its deadline, while the slot writes its record."""

from qmaster.watch import Overdue, confirmed, overdue
from qslots.scoreboard import Record

OLD, NEW = Overdue(1, 100, 200), Overdue(2, 300, 900)


class Words(list[int]):
    """The numbers of a record, which notes each store."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(numbers)
        self.stores: list[tuple[int, int]] = []

    def __setitem__(self, place, number):  # type: ignore[no-untyped-def, override]
        self.stores.append((place, number))
        super().__setitem__(place, number)


def test_case_32_no_moment_of_a_beginning_shows_a_deadline_with_another_task() -> None:
    record = Record.unshared()
    record.begin(OLD.task, OLD.start, OLD.deadline, b"old")
    before = list(record.words)
    record.words = words = Words(before)  # type: ignore[assignment]
    record.begin(NEW.task, NEW.start, NEW.deadline, b"new")
    for done in range(len(words.stores) + 1):
        record.words = seen = list(before)  # type: ignore[assignment]
        for place, number in words.stores[:done]:
            seen[place] = number
        assert overdue([record], 1000).get(0) in (None, OLD, NEW)


def test_a_task_is_over_its_deadline_only_if_two_readings_agree() -> None:
    assert confirmed({0: OLD, 1: OLD, 2: OLD}, {0: OLD, 1: NEW}) == [0]


def test_a_task_without_a_deadline_or_before_it_is_let_alone() -> None:
    record = Record.unshared()
    record.begin(1, 100, 0, b"t")
    assert overdue([record], 1000) == {}
    record.begin(2, 100, 1000, b"t")
    assert overdue([record], 1000) == {}
    assert overdue([record], 1001) == {0: Overdue(2, 100, 1000)}
