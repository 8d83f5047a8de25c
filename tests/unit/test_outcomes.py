"""What becomes of a task whose handler raised, kind by kind."""

import datetime

import msgspec
import pytest

from qslots.options import Options
from qslots.outcomes import (
    LONGEST_TEXT,
    Backoff,
    Bury,
    Outcome,
    Postpone,
    Retry,
    SoftTimeLimit,
    cut,
    decided,
    spoken,
    told,
)
from qslots.work import at_fault

OPTIONS = Options(max_failures=4, backoff=Backoff(2.0, 60.0), never_retry=(KeyError,))
BACKOFF = {"base": 2e6, "cap": 60e6, "jitter": 1.1}
MOMENT = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(("error", "outcome"), [
    (Retry(), Outcome("retry", "the handler asked for a retry", **BACKOFF)),
    (Retry("10s", why="busy"), Outcome("retry", "busy", delay=10e6)),
    (Retry(0), Outcome("retry", "the handler asked for a retry", delay=0.0)),
    (Postpone(at=4.5), Outcome("postpone", at=4.5e6)),
    (Postpone(at=MOMENT), Outcome("postpone", at=MOMENT.timestamp() * 1e6)),
    (Postpone(delay="1m"), Outcome("postpone", delay=60e6)),
    (Postpone(delay=0), Outcome("postpone", delay=0.0)),
    (Postpone(), Outcome("postpone", **BACKOFF)),  # not at once: that would be a hot loop
    (Bury("hopeless"), Outcome("bury", "hopeless")),
    (Bury(), Outcome("bury", "the handler buried the task")),
    (KeyError("x"), Outcome("bury", "KeyError: 'x'")),
    (ValueError("bad"), Outcome("fail", "ValueError: bad", 4, **BACKOFF)),
    (SoftTimeLimit("slow"), Outcome("fail", "qslots.outcomes.SoftTimeLimit: slow", 4, **BACKOFF)),
    (SystemExit(3), Outcome("fail", "SystemExit: 3", 4, **BACKOFF)),
    (KeyboardInterrupt(), Outcome("fail", "KeyboardInterrupt", 4, **BACKOFF)),
])  # fmt: skip
def test_each_kind_of_end(error: BaseException, outcome: Outcome) -> None:
    assert decided(error, OPTIONS, 1.1) == outcome


@pytest.mark.parametrize("make", [
    lambda: Retry("soon"), lambda: Retry(-1), lambda: Retry(float("inf")), lambda: Postpone(at="tomorrow"),
    lambda: Postpone(at=float("inf")), lambda: Postpone(at=datetime.datetime(2030, 1, 1)),
    lambda: Postpone(delay="soon"),
])  # fmt: skip
def test_request_that_makes_no_sense_fails_in_the_handler_where_it_is_made(make: object) -> None:
    with pytest.raises(ValueError, match=" is "):
        make()  # type: ignore[operator]


def raises() -> None:
    raise ValueError("deep")


def test_traceback_begins_at_the_handler_and_names_its_cause() -> None:
    try:
        raises()
    except ValueError as error:
        text = told(error)
    assert text.startswith("Traceback")
    assert "in raises" in text
    assert "test_traceback_begins" not in text  # the frame above: with us the slot's own
    assert text.endswith("ValueError: deep")


def test_long_text_is_cut_at_its_beginning() -> None:
    assert cut("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    text = cut("a" * LONGEST_TEXT + "the end")
    assert text.startswith("… a")
    assert text.endswith("the end")
    assert len(text) == LONGEST_TEXT + 2


def test_outcome_on_the_wire_is_a_map_that_the_script_reads_by_name() -> None:
    wire = msgspec.msgpack.decode(
        msgspec.msgpack.encode({3: Outcome("fail", "why", 2, base=1.0, cap=2.0)}), strict=False
    )
    assert wire == {3: {
        "kind": "fail", "why": "why", "limit": 2, "delay": None, "at": None, "base": 1.0, "cap": 2.0, "jitter": 1.0,
    }}  # fmt: skip


class Unfinished(Retry):
    def __init__(self) -> None: ...


class Mute(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Unkempt(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("nobody knows")


@pytest.mark.parametrize(("error", "why"), [
    (Unfinished(), "Unfinished, which cannot be read: AttributeError: 'Unfinished' object has no attribute 'delay'"),
    (Mute(), "Mute: <exception str() failed>"),
    (Unkempt("x"), "Unkempt: x (its traceback cannot be had: RuntimeError)"),
])  # fmt: skip
def test_error_that_cannot_be_read_is_a_failure_like_another(error: BaseException, why: str) -> None:
    outcome = decided(error, OPTIONS, 1.1)
    assert (outcome.kind, outcome.limit) == ("fail", 4)
    assert outcome.why.endswith(why)
    assert spoken(Mute()) == "(its text cannot be had: KeyboardInterrupt)"


def test_traceback_in_the_log_is_that_of_faults_and_only_if_it_can_be_had() -> None:
    fault = ValueError("deep")
    assert at_fault(fault) == (ValueError, fault, None)
    assert [at_fault(error) for error in (Retry(), Postpone(), Bury("hopeless"), Unkempt("x"))] == [None] * 4
