"""What hostile or broken processes may write where the master reads: it may be wrong, it may never be an exception."""

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
from selectors import DefaultSelector
from typing import Any

import msgspec
import pytest
from support.waiting import wait_for

from qmaster import deaths, linux, relief, signals, watch
from qmaster.books import Books
from qmaster.children import Child, Phase
from qmaster.courier import Courier
from qmaster.faults import EVERY, LAST, MOST, WITHIN, Faults
from qmaster.lastmap import LastMap
from qmaster.letters import Failed, SaveState, encode
from qmaster.state import State
from qslots.control import Control
from qslots.errors import Error
from qslots.logs import to_stderr
from qslots.reports import MOST_SLOTS, MapRow, Report
from qslots.scoreboard import Field, Record
from qslots.settings import ServerSettings

CAUSE = deaths.Cause("was killed by SIGSEGV", own=True)
NUMBERS = (-1, 1, 5, 1_001, 65_535, 1 << 47, 1 << 62, (1 << 63) - 1, -(1 << 63))


def scribble(record: Record, chance: random.Random) -> None:
    """As a task might that has lost its way in memory, or knows it well."""
    room = record._raw
    room[:] = chance.randbytes(len(room))
    for field in chance.sample(list(Field), chance.randrange(len(Field))):
        record.words[field] = chance.choice(NUMBERS)
    if chance.random() < 0.5:
        record.put_text("doubts", b"%d work@main " % chance.choice((7, 10**30)))


@pytest.mark.parametrize("seed", range(200))
def test_whatever_stands_in_a_record_the_master_reads_it(record: Record, seed: int) -> None:
    chance, now = random.Random(seed), 1 << 50
    scribble(record, chance)
    watch.overdue([record], now)
    watch.untrusted([record], now)
    watch.to_extend([record], now)
    watch.slow([record], now, {})
    for at in relief.standing([record], now, {}).values():
        record.stop_after(at.seq, at.position)
        record.words[Field.SIZE] = chance.choice(NUMBERS)
        letter = relief.settlement(record, at, {})
        assert letter is None or encode(letter)
    assert all(encode(each) for each in deaths.left_behind(record, CAUSE, 1.0, ["work@main"]))
    deaths.work(record)
    deaths.is_crash(CAUSE, record)
    child = Child(0, "h", 1, Phase.LIVE, 0.0, 0.0, pid=1)
    assert msgspec.json.encode(Books(ServerSettings()).slot_report(child, record))


def test_of_a_map_with_more_slots_than_a_server_can_have_the_rest_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    huge = MapRow(7, 1, "m", (("a",),) * (MOST_SLOTS + 900))
    for last in (LastMap(None, "web", None), LastMap(None, "web", huge)):
        for _ in range(3):
            last.heard(huge)
        found = last.in_force(away=False)
        assert found is not None and len(found.slots) == MOST_SLOTS
    assert sum("4996 slots" in said for said in caplog.messages) == 2  # once each


def test_a_row_that_cannot_be_read_is_an_error_in_one_line() -> None:
    class Server:
        """A queue server that answers a report with nonsense."""

        def run(self, *_: object) -> list[object]:
            return [b"\xa2\xff\xff", 0, None, None]

    values: dict[str, Any] = {field.name: 0 for field in msgspec.structs.fields(Report) if field.required}
    report = Report(**values)
    with pytest.raises(Error, match="cannot be read"):
        Control(Server()).report(report, None)  # type: ignore[arg-type]


def test_a_letter_that_ends_in_a_fault_ends_no_courier(caplog: pytest.LogCaptureFixture) -> None:
    courier = Courier(None)  # type: ignore[arg-type]
    letter = SaveState("\0", State("web", "redis://here", MapRow(1, 1, "m", ())))
    answer = courier._answer(letter)
    assert isinstance(answer, Failed) and answer.code == "refused" and "ValueError" in answer.why
    assert "SaveState" in caplog.text


def test_the_name_of_any_process_may_be_any_bytes() -> None:
    odd = "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff) \\xfe(', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", odd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in linux.strays(os.getpid() + (1 << 22), set(), set())  # our child, whom nobody knows
        process.kill()


def test_no_death_is_lost_in_a_storm_of_signals() -> None:
    before = {number: signal.getsignal(number) for number in signals.MEANING}
    heard: list[int] = []
    selector = DefaultSelector()
    signals.listen(selector, heard.append)
    try:
        for _ in range(5_000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGCHLD)

        def listened() -> bool:
            for key, _ in selector.select(0):
                key.data()
            return signal.SIGCHLD in heard

        wait_for(listened, lambda: f"SIGCHLD among {set(heard)}")
        assert heard.count(signal.SIGHUP) == 1
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            with contextlib.suppress(TypeError):
                signal.signal(number, handler)
        selector.close()


def test_faults_add_up_within_a_minute_and_a_row_of_them_is_told_now_and_then() -> None:
    faults = Faults()
    assert [faults.counts(at) for at in (0.0, 0.1, EVERY - 0.01, EVERY)] == [True, False, False, True]
    assert not faults.are_too_many
    now = 2 * WITHIN
    for n in range(MOST - 1):  # those before are forgotten
        faults.counts(now + n)
    assert not faults.are_too_many
    faults.counts(now + MOST)
    assert faults.are_too_many and faults.end_by == now + MOST + LAST
    faults.counts(now + MOST + 5.0)
    assert faults.end_by == now + MOST + LAST  # another one gives no more time


def test_a_line_from_a_task_forges_none_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    root, last = logging.getLogger(), logging.lastResort
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        to_stderr("qmaster")
        logging.getLogger("qmaster").warning("task %s", "a\n2026-01-01 00:00:00,000 ERROR qmaster: \x1b[2J\x07\x9b")
    finally:
        root.handlers[:], logging.lastResort = handlers, last
        root.setLevel(level)
    said = capfd.readouterr().err
    assert "\x1b" not in said and "\x9b" not in said and r"\x1b[2J\x07\x9b" in said
    assert [line[:4] for line in said.splitlines()][1] == "    "


def test_a_scoreboard_of_nonsense_holds_up_no_successor(record: Record) -> None:
    record.put_text("doubts", b"99999999999999999999999999 work@main 8 mail@b nonsense")
    assert record.doubts() == {"mail@b": 8}
