"""What an exit means and what it costs whom: tables over wait statuses and scoreboard records."""

import os
import pathlib
import signal
from collections.abc import Iterator

import pytest

from qmaster import relief, watch
from qmaster.crashloops import Work
from qmaster.deaths import (
    Cause,
    MemoryKills,
    cause_of,
    decode,
    exited,
    is_crash,
    left_behind,
    told,
    work,
    worked,
)  # fmt: skip
from qmaster.letters import Charged, SettleDead
from qmaster.reasons import Reason
from qslots.scoreboard import DONE, RUNS, WHOLE_PACK, Field, Record, Scoreboard

CRASH = Cause("was killed by SIGSEGV", own=True)
SECOND = 1_000_000_000


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Iterator[Record]:
    """The record of a slot that holds pack 7 of four tasks of queue mail and runs the third."""
    record = Scoreboard.create(str(tmp_path / "board")).record(3)
    record.clear(holder="web/3/x.1", generation=1)
    record.put_text("asked_source", b"mail@main")
    record.words[Field.ASKED] = 7
    record.words[Field.MAX_CRASHES] = 3
    record.words[Field.BACKOFF_FIRST] = 5_000_000
    record.words[Field.BACKOFF_LONGEST] = 900_000_000
    record.hold(7, b"mail@main", b"send", 4)
    record.marks[0] = record.marks[1] = 1
    record.begin(3, 100, 200, b"t")
    yield record


@pytest.mark.parametrize(
    ("status", "text", "own", "reason"),
    [
        (signal.SIGSEGV, "was killed by SIGSEGV", True, "signal:SIGSEGV"),
        (signal.SIGKILL, "was killed by SIGKILL", True, "signal:SIGKILL"),
        (signal.SIGTERM, "was killed by SIGTERM", False, "signal:SIGTERM"),
        (signal.SIGABRT | 0x80, "was killed by SIGABRT", True, "signal:SIGABRT"),
        (3 << 8, "exited with code 3", True, "exit:3"),
        (63 << 8, "exited with code 63", True, "exit:63"),
        (64 << 8, "exited with code 64 (EX_USAGE)", True, "exit:64"),
        (70 << 8, "exited with code 70 (EX_SOFTWARE)", True, "exit:70"),
        (78 << 8, "exited with code 78 (EX_CONFIG)", True, "exit:78"),
        (79 << 8, "exited with code 79", True, "exit:79"),
        (0, "ended by itself", True, "exit:0"),
        (60, "was killed by signal 60", True, "signal:60"),
    ],
)
def test_an_exit_is_decoded(status: int, text: str, own: bool, reason: str) -> None:
    assert decode(status) == Cause(text, own, reason)


def test_the_names_of_exit_codes_are_those_of_the_system() -> None:
    known = {code: name for name, code in vars(os).items() if name.startswith("EX_") and code >= 64}
    assert {code: exited(code).partition("(")[2].rstrip(")") for code in known} == known


def test_a_kill_for_want_of_memory_is_told_as_that() -> None:
    assert decode(signal.SIGKILL, starved=True) == Cause(
        "was killed by SIGKILL: the kernel was out of memory", own=True, reason="memory"
    )


ASKED = "no longer on the map"


@pytest.mark.parametrize(
    ("what", "status", "killed", "text", "own", "reason"),
    [
        (
            "we have killed it",
            signal.SIGKILL,
            Reason.GRACE,
            f"was ended by its master: {ASKED}",
            False,
            "grace exceeded",
        ),
        ("it was faster", signal.SIGSEGV, Reason.GRACE, "was killed by SIGSEGV", True, "signal:SIGSEGV"),
        ("it has the signal's own meaning", signal.SIGTERM, None, f"was ended by its master: {ASKED}", False, "left"),
        (
            "while it was leaving its task crashed",
            signal.SIGSEGV,
            None,
            "was killed by SIGSEGV",
            True,
            "signal:SIGSEGV",
        ),
        ("while it was leaving its task exited", 3 << 8, None, "exited with code 3", True, "exit:3"),
        ("somebody else has killed it", signal.SIGKILL, None, "was killed by SIGKILL", True, "signal:SIGKILL"),
    ],
)
def test_a_slot_that_was_asked_to_leave_is_ours_only_if_we_ended_it(
    record: Record, what: str, status: int, killed: Reason | None, text: str, own: bool, reason: str
) -> None:
    assert cause_of(status, ASKED, record, None, killed=killed) == Cause(text, own, reason), what


@pytest.mark.parametrize(
    ("cause", "task", "is_one"),
    [
        (decode(signal.SIGSEGV), 3, True),
        (decode(1 << 8), 3, True),
        (decode(signal.SIGSEGV), 0, False),
        (decode(signal.SIGKILL), 3, False),
        (decode(signal.SIGTERM), 3, False),
        (decode(signal.SIGKILL, starved=True), 3, False),
        (Cause("was killed: it ran longer than its time limit of 90 s", own=True, reason=Reason.TIME_LIMIT), 3, False),
    ],
)
def test_a_crash_is_a_task_that_has_ended_its_own_process(
    record: Record, cause: Cause, task: int, is_one: bool
) -> None:
    record.words[Field.TASK] = task
    assert is_crash(cause, record) == is_one


def test_of_what_a_slot_works_on_is_known_what_has_ended_well(record: Record) -> None:
    assert work(record) == Work("mail", "send", 2)
    record.words[Field.ENDED] = 10
    assert work(record) == Work("mail", "send", 12)
    record.drop()
    assert work(record) is None


def test_a_kill_of_the_kernel_stands_for_one_death_and_not_for_a_later_one() -> None:
    kills = MemoryKills(7)
    assert not kills.claim(7)
    assert [kills.claim(9) for _ in range(3)] == [True, True, False]
    kills.look(9)
    kills.look(10)  # another process of the machine
    kills.look(10)
    assert not kills.claim(10)
    kills.look(11)  # counted, but not reaped yet
    assert kills.claim(11)
    kills.look(2)  # a control group has gone, with its count
    assert not kills.claim(2)
    assert kills.claim(3)


OVER = watch.Overdue(3, 100, 100 + 90 * 10**9)  # what the fixture's record runs
INNOCENT = "was killed: the task before this one ran longer than its time limit of 90 s"


@pytest.mark.parametrize(
    ("status", "ran", "text", "own"),
    [
        (signal.SIGKILL, (3, 100), "was killed: it ran longer than its time limit of 90 s", True),
        (signal.SIGKILL, (4, 250), INNOCENT, False),  # it ended after the second reading, before the kill
        (signal.SIGKILL, (3, 250), INNOCENT, False),  # the same place in the next pack
        (signal.SIGKILL, (0, 100), INNOCENT, False),  # nothing ran
        (signal.SIGSEGV, (3, 100), "was killed by SIGSEGV", True),  # it was faster than the kill
        (3 << 8, (3, 100), "exited with code 3", True),
    ],
)
def test_a_kill_at_the_hard_limit_is_charged_to_the_task_whose_limit_it_was(
    record: Record, status: int, ran: tuple[int, int], text: str, own: bool
) -> None:
    record.words[Field.TASK], record.words[Field.START] = ran
    cause = cause_of(status, OVER.did, record, OVER, killed=Reason.TIME_LIMIT)
    assert (cause.text, cause.own) == (text, own)
    (letter,) = left_behind(record, cause, 1.0)
    assert list(letter.outcomes) == ([3] if own else [])


def test_a_kill_for_memory_says_so_and_is_charged_to_the_task_that_ran_then(record: Record) -> None:
    over = watch.Overdue(3, 100, 200, "used too much memory: 105 MB")
    assert cause_of(signal.SIGKILL, over.why, record, over) == Cause(
        "was killed: it used too much memory: 105 MB", own=True, reason=Reason.MEMORY
    )
    record.words[Field.TASK] = 4
    assert cause_of(signal.SIGKILL, over.why, record, over) == Cause(
        "was killed: the task before this one used too much memory: 105 MB", own=False, reason=Reason.MEMORY
    )


def test_a_task_over_its_limit_is_charged_also_in_a_slot_that_was_leaving(record: Record) -> None:
    assert cause_of(signal.SIGKILL, "drained", record, OVER, killed=Reason.TIME_LIMIT).own
    assert not cause_of(signal.SIGKILL, "drained", record, None, killed=Reason.GRACE).own


def test_the_marked_are_done_the_one_that_ran_is_charged_the_rest_goes_back(record: Record) -> None:
    (letter,) = left_behind(record, CRASH, 1.0)
    assert (letter.source, letter.holder, letter.held, letter.asked) == ("mail@main", "web/3/x.1", 7, 7)
    assert letter.marks == b"\1\1\0\0"
    assert letter.rest == "back"
    assert {position: outcome.kind for position, outcome in letter.outcomes.items()} == {3: "crash"}
    assert letter.outcomes[3].why == "the slot that ran it was killed by SIGSEGV"
    assert (letter.outcomes[3].limit, letter.outcomes[3].base) == (3, 5e6)


@pytest.mark.parametrize(
    ("untold", "seconds"),
    [
        (10 * SECOND, 20.0),  # it runs since then
        (-3 * SECOND, 3.0),  # it has run for so long
        (0, 0.0),
        (31 * SECOND, 0.0),  # after its death
        (1, 25.0),  # before its birth
        (-1 << 63, 25.0),
        ((1 << 63) - 1, 0.0),
    ],
)
def test_time_that_was_not_told_is_believed_up_to_the_age_of_the_slot(
    record: Record, untold: int, seconds: float
) -> None:
    record.words[Field.UNTOLD] = untold
    assert worked(record, until=30 * SECOND, age=25.0) == seconds
    assert worked(record, until=30 * SECOND, age=-1.0) == 0.0


OURS = Cause("was ended by its master", own=False)


@pytest.mark.parametrize(
    ("what", "cause", "marks", "began", "seconds"),
    [
        ("charged", CRASH, [DONE, DONE, 0, 0], 12, 20.0),
        ("back", OURS, [DONE, DONE, 0, 0], 12, 2.0),
        ("marked", OURS, [DONE, DONE, DONE, 0], 12, 20.0),
        ("several, lost", CRASH, [DONE, RUNS, RUNS, 0], 12, 2.0),
        ("they began before the last settlement", CRASH, [DONE, RUNS, RUNS, 0], 8, 0.0),
        ("it lied", OURS, [DONE, DONE, 0, 0], 99, 20.0),
    ],
)
def test_booked_is_the_time_of_what_is_done_or_charged(
    record: Record, what: str, cause: Cause, marks: list[int], began: int, seconds: float
) -> None:
    record.words[Field.UNTOLD] = 10 * SECOND
    record.marks[:4] = bytes(marks)
    record.begin(3, began * SECOND, 0, b"t")
    held, *others = left_behind(record, cause, 1.0, ("photos@main",), died=30 * SECOND, age=25.0)
    assert (held.held, held.busy, [each.busy for each in others]) == (7, seconds, [0.0]), what
    assert left_behind(record, cause, 1.0)[0].busy == 0.0, "nobody knows when it died"


def test_nobody_is_charged_for_what_came_from_outside(record: Record) -> None:
    (letter,) = left_behind(record, Cause("was ended by its master", own=False), 1.0)
    assert letter.outcomes == {}


def test_a_task_that_was_marked_before_the_slot_died_is_not_charged(record: Record) -> None:
    record.marks[2] = 1
    (letter,) = left_behind(record, CRASH, 1.0)
    assert letter.outcomes == {}


def test_a_pack_run_as_a_whole_comes_back_narrower_and_uncharged(record: Record) -> None:
    record.marks[:4] = bytes([0, RUNS, RUNS, RUNS])  # the arguments of the first did not fit
    record.begin(WHOLE_PACK, 100, 200, b"t")
    (letter,) = left_behind(record, CRASH, 1.0)
    assert {position: outcome.kind for position, outcome in letter.outcomes.items()} == dict.fromkeys((2, 3, 4), "loss")
    assert letter.rest == "back"


def test_the_last_of_a_whole_pack_whose_end_was_not_told_yet_is_not_charged(record: Record) -> None:
    record.marks[:4] = bytes([DONE, DONE, RUNS, DONE])
    record.begin(WHOLE_PACK, 100, 0, b"t")
    (letter,) = left_behind(record, CRASH, 1.0)
    assert {position: outcome.kind for position, outcome in letter.outcomes.items()} == {3: "loss"}
    record.marks[:4] = bytes([0, 0, RUNS, 0])  # the arguments of the others did not fit: it was alone
    (letter,) = left_behind(record, CRASH, 1.0)
    assert {position: outcome.kind for position, outcome in letter.outcomes.items()} == {3: "crash"}


@pytest.mark.parametrize("cause", [CRASH, Cause("was killed: it ran longer than its time limit of 90 s", own=True)])
def test_of_several_that_ran_at_once_each_is_lost_and_none_is_charged(record: Record, cause: Cause) -> None:
    record.marks[:4] = bytes([RUNS, DONE, RUNS, 0])
    record.begin(1, 100, 200, b"t")
    (letter,) = left_behind(record, cause, 1.0)
    assert {position: outcome.kind for position, outcome in letter.outcomes.items()} == {1: "loss", 3: "loss"}
    assert (letter.marks, letter.rest) == (bytes([RUNS, DONE, RUNS, 0]), "back")


def test_the_only_one_that_ran_is_charged_whatever_its_handler(record: Record) -> None:
    record.marks[:4] = bytes([DONE, DONE, RUNS, 0])
    record.begin(3, 100, 200, b"t")
    (letter,) = left_behind(record, CRASH, 1.0)
    assert {position: outcome.kind for position, outcome in letter.outcomes.items()} == {3: "crash"}
    (letter,) = left_behind(record, Cause("was ended by its master", own=False), 1.0)
    assert letter.outcomes == {}


def test_alone_in_its_pack_a_task_is_charged_also_by_a_pack_handler(record: Record) -> None:
    record.hold(7, b"mail@main", b"send", 1)
    record.marks[0] = RUNS
    record.begin(WHOLE_PACK, 100, 200, b"t")
    (letter,) = left_behind(record, CRASH, 1.0)
    assert (list(letter.outcomes), letter.rest) == ([1], "back")


def test_a_request_under_way_in_another_queue_is_settled_too(record: Record) -> None:
    record.put_text("asked_source", b"photos@main")
    record.words[Field.ASKED] = 8
    held, asked = left_behind(record, CRASH, 1.0)
    assert (held.source, held.held) == ("mail@main", 7)
    assert asked == SettleDead("photos@main", "web/3/x.1", None, 8, {}, b"", "back", CRASH.text)


def test_what_is_in_doubt_on_servers_that_were_away_is_settled_by_its_own_number(record: Record) -> None:
    record.put_doubts({"mail@b": 5, "photos@c": 6})
    held, *rest = left_behind(record, CRASH, 1.0, ("mail@main", "mail@b", "mail@d"))
    assert (held.source, held.held, held.asked) == ("mail@main", 7, 7)
    assert [(each.source, each.held, each.asked) for each in rest] == [
        ("mail@b", None, 5), ("mail@d", None, 7), ("photos@c", None, 6),
    ]  # fmt: skip


def test_a_doubt_that_has_just_become_the_pack_at_hand_is_settled_as_that(record: Record) -> None:
    record.put_doubts({"mail@main": 7})
    assert [(each.source, each.held) for each in left_behind(record, CRASH, 1.0)] == [("mail@main", 7)]


def test_a_slot_that_never_asked_left_nothing(record: Record) -> None:
    record.clear(holder="web/3/x.2", generation=1)
    assert left_behind(record, CRASH, 1.0) == []


def test_a_deadline_counts_only_when_two_readings_agree(record: Record) -> None:
    first = watch.overdue([record], 300)
    assert watch.confirmed(first, watch.overdue([record], 400)) == [3]
    record.begin(4, 350, 0, b"u")  # meanwhile it has gone on to a task without a limit
    assert watch.confirmed(first, watch.overdue([record], 400)) == []


def test_time_that_the_machine_has_slept_is_given_to_those_that_ran(record: Record) -> None:
    assert watch.overdue([record], 300, [(150, 100)]) == {}
    assert list(watch.overdue([record], 301, [(150, 100)])) == [3]
    assert list(watch.overdue([record], 300, [(50, 100)])) == [3], "it slept before this task began"


def test_who_runs_on_without_an_extension_is_known_by_two_equal_readings(record: Record) -> None:
    record.words[Field.LOCK_UNTIL] = 250
    assert watch.untrusted([record], 250) == {}
    first = watch.untrusted([record], 251)
    assert watch.confirmed(first, watch.untrusted([record], 300)) == [3]
    record.words[Field.EXTENDED_UNTIL] = 400
    assert watch.confirmed(first, watch.untrusted([record], 300)) == []
    record.begin(4, 290, 0, b"u")
    assert watch.confirmed(first, watch.untrusted([record], 500)) == [], "another task"
    record.end()
    assert watch.untrusted([record], 500) == {}, "nothing runs"


def test_a_task_within_its_limit_is_not_overdue(record: Record) -> None:
    assert watch.overdue([record], 199) == {}


def test_locks_are_extended_after_a_sixth_of_their_ttl(record: Record) -> None:
    record.words[Field.TTL] = 60 * SECOND
    record.words[Field.LOCK_UNTIL] = 45 * SECOND  # taken at 0, trusted for three quarters
    assert watch.to_extend([record], 9 * SECOND) == {}
    assert list(watch.to_extend([record], 11 * SECOND)) == [("mail@main", 60.0)]
    record.words[Field.EXTENDED_UNTIL] = 56 * SECOND
    assert watch.to_extend([record], 11 * SECOND) == {}


def test_a_slot_that_has_moved_on_does_not_hold_the_lock_still(record: Record) -> None:
    assert watch.holds_still(record, "web/3/x.1:7")
    record.hold(8, b"mail@main", b"send", 1)
    assert not watch.holds_still(record, "web/3/x.1:7")


def test_where_a_dead_slot_only_waited_it_waits_no_more(record: Record) -> None:
    pack, elsewhere = left_behind(record, CRASH, 1.0, ("mail@main", "photos@main"))
    assert (pack.source, pack.held) == ("mail@main", 7)
    assert (elsewhere.source, elsewhere.held, elsewhere.outcomes) == ("photos@main", None, {})


def test_slot_whose_tasks_run_beside_each_other_is_not_relieved_of_those_behind_the_oldest(record: Record) -> None:
    assert list(relief.standing([record], 100 + 2 * SECOND, {})) == [3]
    record.marks[2] = RUNS
    assert relief.standing([record], 100 + 2 * SECOND, {}) == {}


@pytest.mark.parametrize(("crashes", "is_buried", "what"), [
    (1, False, "has crashed, 1 of 3"), (3, True, "is buried after 3 crashes"), (1, True, "is buried after 1 crash"),
])  # fmt: skip
def test_a_charged_task_is_told_of_by_name(record: Record, crashes: int, is_buried: bool, what: str) -> None:
    letter = left_behind(record, CRASH, 1.0)[0]
    line = f"send t {what}: the slot that ran it was killed by SIGSEGV"
    assert told("send", letter, Charged(crashes, is_buried)) == line


def test_task_of_a_pack_handler_that_was_alone_is_named_and_of_several_none(record: Record) -> None:
    record.begin(WHOLE_PACK, 100, 200, b"first")
    record.marks[0], record.marks[1] = RUNS, 0
    assert left_behind(record, CRASH, 1.0)[0].charged == "first"
    record.marks[2] = RUNS
    assert left_behind(record, CRASH, 1.0)[0].charged == ""


def test_who_is_not_charged_is_not_named(record: Record) -> None:
    assert left_behind(record, Cause("was lost with its master", own=False), 1.0)[0].charged == ""
