"""What the master makes of its measurements: which sizes count, who is to leave, what is said."""

import logging

import pytest

from qmaster.books import AT_REST, GROWN, Books, Mark, MoldSize
from qmaster.children import Children, Phase
from qmaster.letters import Measured, Sized, Strain
from qmaster.shedding import EMPTY_FOR
from qslots.reports import Declared, QueueDeclared
from qslots.scoreboard import Field, Record
from qslots.settings import ServerSettings

M = 1 << 20
MOLD = MoldSize(1, 50 * M, generation=1)
DECLARED = Declared((QueueDeclared("mail", memory=40 * M), QueueDeclared("web")))
WANTED = dict.fromkeys(range(4), ("mail",))


class Server:
    """Books with live slots of mail, and their records."""

    def __init__(self, slots: int = 4, *, generation: int = 1) -> None:
        self.books = Books(ServerSettings(reserve_memory=100 * M, private_limit=256 * M))
        self.children = Children()
        self.records = [Record.unshared() for _ in range(slots)]
        for index in range(slots):
            child = self.children.order(index, f"h{index}", generation, 0.0)
            child.phase, child.pid, child.queues = Phase.LIVE, 100 + index, ("mail",)

    def turn(self, now: float, *sizes: int | None, available: int = 1000 * M, asked: float | None = None) -> None:
        """A measurement (sizes of slots 0, 1, …; None: not measured now), and what follows from it."""
        found: dict[int, Sized | None] = {
            100 + index: Sized(size, size, size) for index, size in enumerate(sizes) if size is not None
        }
        answer = Measured(available, 4000 * M, found, Strain(2.0, 0.0, 0.0))
        self.books.measured(answer, now if asked is None else asked)
        self.books.assess(self.children, self.record, MOLD, DECLARED, now)
        self.books.shed(self.children, self.record, WANTED, now)

    def record(self, index: int) -> Record:
        return self.records[index]

    def work(self, *indexes: int) -> None:
        for index in indexes:
            self.records[index].words[Field.DONE] += 1

    @property
    def size(self) -> int:
        assert self.books.capacity is not None
        return self.books.capacity.slot_sizes["mail"]


def test_a_size_counts_only_when_it_was_measured_after_the_first_task() -> None:
    server = Server(1)
    server.turn(1.0, 2 * M)
    assert server.size == 40 * M
    server.work(0)
    server.turn(2.0, 2 * M, asked=1.9)  # read before the task was seen to be done
    assert server.size == 40 * M
    server.turn(3.0, 12 * M)
    assert server.size == 12 * M


def test_a_slot_that_never_had_a_task_does_not_overrule_what_its_queue_declares() -> None:
    server = Server(1)
    server.turn(GROWN + 1, 2 * M)
    server.turn(GROWN + 2, 2 * M)
    assert server.size == 40 * M


def test_the_size_of_a_slot_of_another_generation_says_nothing_of_the_next() -> None:
    server = Server(1, generation=0)
    server.work(0)
    for now in (1.0, 2.0, 3.0):
        server.turn(now, 143 * M)  # the last one of a mold that is gone: all of it is private
    assert server.size == 40 * M


def test_slots_leave_when_memory_shrinks_and_their_places_stay_empty_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "qmaster")
    server = Server()
    server.work(0, 1, 2, 3)
    server.records[3].words[Field.HELD] = 7
    for now in (1.0, 2.0):
        server.turn(now, *[40 * M] * 4)
    assert server.books.retiring(server.children) == {}

    server.turn(3.0, *[40 * M] * 4, available=30 * M)  # below half of the reserve: 40 MB are left for slots
    why = "memory: 40 MB for slots, 4 slots need 160 MB"
    assert server.books.retiring(server.children) == dict.fromkeys((0, 1, 2), why)
    for index in (0, 1, 2):
        server.children.advance(server.children.tenants[index], Phase.LEAVING, 3.0, why)
    server.turn(4.0, *[40 * M] * 4, available=30 * M)
    assert server.books.retiring(server.children) == {}, "nobody more than must go"

    for index in (0, 1, 2):
        del server.children.tenants[index]
    for now in (5.0, 3.0 + EMPTY_FOR - 0.1):
        assert min(server.books.room(server.children, WANTED, now).sizes.values()) == float("inf")
    for now in range(14, 60):
        server.turn(float(now), 40 * M, available=1000 * M)
        found = server.books.room(server.children, WANTED, float(now))
    assert found.sizes == dict.fromkeys((0, 1, 2), 40 * M)
    assert found.memory >= 40 * M
    assert [record.message for record in caplog.records] == [
        f"{why}: 3 slots to leave, after the task",
        "memory: 80 MB for slots: more may be forked again",
    ]


def test_nobody_leaves_for_the_guess_of_a_size() -> None:
    server = Server()
    for child in server.children.tenants.values():
        child.queues = ("web",)  # nobody has measured it: 256 MB each would be more than there is
    for now in range(1, 30):
        server.turn(float(now), *[3 * M] * 4, available=300 * M)
    assert server.books.retiring(server.children) == {}


def read(books: Books, marks: dict[int, Mark], now: float, *pids: int) -> None:
    """A measurement of these pids with the marks that they had when it was asked for."""
    sizes: dict[int, Sized | None] = {pid: Sized(M, M, M) for pid in pids}
    books.measured(Measured(M, M, sizes, Strain(2.0, 0.0, 0.0)), now, marks)


def test_who_has_done_nothing_since_is_measured_again_after_a_while() -> None:
    books, marks = Books(ServerSettings()), {1: Mark(5), 2: Mark(9)}
    assert books.to_measure(marks, 0.0) == [1, 2]
    read(books, marks, 0.0, 1, 2)
    assert books.to_measure(marks, AT_REST - 1) == []
    assert books.to_measure(marks, AT_REST) == [1, 2]
    assert books.to_measure({1: Mark(5), 2: Mark(10)}, 1.0) == [2]
    books.outdated(1)
    assert books.to_measure(marks, 1.0) == [1]


def test_who_was_at_work_when_it_was_measured_is_measured_again() -> None:
    books = Books(ServerSettings())
    read(books, {1: Mark(5, at_work=1.0)}, 1.0, 1)
    assert books.to_measure({1: Mark(5, at_work=2.0)}, 2.0) == [1]
    assert books.to_measure({1: Mark(5)}, 2.0) == [1]


def test_first_comes_whose_size_is_waited_for_then_who_was_measured_longest_ago() -> None:
    books, young = Books(ServerSettings()), {pid: Mark(0, is_old=False) for pid in (1, 2, 3, 4)}
    read(books, young, 1.0, 1, 2)
    read(books, young | {1: Mark(1)}, 2.0, 1)
    read(books, young, 3.0, 4)
    assert books.to_measure({1: Mark(2), 2: Mark(1), 3: Mark(0, is_old=False), 4: Mark(1)}, 4.0) == [2, 4, 3, 1]


def test_of_processes_that_are_gone_nothing_stays() -> None:
    books, marks = Books(ServerSettings()), {1: Mark(5)}
    read(books, marks, 0.0, 1)
    books.to_measure({}, 1.0)
    assert books.to_measure(marks, 2.0) == [1]
