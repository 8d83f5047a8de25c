"""What slots owe, kept beside the scoreboard."""

import pathlib

from qmaster import ledger
from qmaster.letters import Pay
from qslots.debts import Owed
from qslots.outcomes import Outcome


def debt(seq: int) -> Pay:
    return Pay("web/0/x.1", Owed("work@b", seq, {1: Outcome("failure", "it broke")}, marks=b"\0\1"))


def test_debts_are_read_as_they_were_written_until_all_are_paid(tmp_path: pathlib.Path) -> None:
    board = tmp_path / "web.x.board"
    assert ledger.left_beside(board) == []
    kept = ledger.Ledger(board)
    kept.owe(debt(1))
    kept.owe(debt(2))
    assert ledger.left_beside(board) == [debt(1), debt(2)]
    kept.paid()
    assert len(ledger.left_beside(board)) == 2  # to pay twice does no harm
    kept.paid()
    assert ledger.left_beside(board) == []
    kept.owe(debt(3))
    assert ledger.left_beside(board) == [debt(3)]


def test_a_debt_that_was_being_written_is_not_there_and_harms_no_other(tmp_path: pathlib.Path) -> None:
    board = tmp_path / "web.x.board"
    kept = ledger.Ledger(board)
    kept.owe(debt(1))
    whole = ledger.path_beside(board).read_bytes()
    kept.owe(debt(2))
    both = ledger.path_beside(board).read_bytes()
    for end in range(len(both)):
        ledger.path_beside(board).write_bytes(both[:end])
        assert ledger.left_beside(board) == ([debt(1)] if end >= len(whole) else [])


def test_where_nothing_can_be_written_work_goes_on(tmp_path: pathlib.Path) -> None:
    kept = ledger.Ledger(tmp_path / "gone" / "web.x.board")
    kept.owe(debt(1))
    kept.paid()
