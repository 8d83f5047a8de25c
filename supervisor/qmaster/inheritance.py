"""Settles what earlier masters of this name have left on this machine. All their slots are dead: our lock proves it."""

import logging
import pathlib
from collections.abc import Callable

from qslots.errors import Error
from qslots.scoreboard import Scoreboard
from qslots.servers import parted
from qslots.units import counted

from . import deaths, ledger
from .couriers import Couriers
from .letters import Failed, Pay, Reply, SettleDead

log = logging.getLogger("qmaster")
CAUSE = deaths.Cause("was lost with its master", own=False)


def settle(boards: list[pathlib.Path], couriers: Couriers, now: float) -> None:
    """Sends a settlement for every slot on these scoreboards; each file goes when all of it is settled."""
    for path in boards:
        try:
            tenants = Scoreboard.open(str(path)).tenants()
            debts = ledger.left_beside(path)
        except (Error, OSError) as error:
            log.warning("scoreboard %s is left aside: %s", path, error)
            continue
        letters: list[Pay | SettleDead] = [*debts]
        letters += [letter for record in tenants for letter in deaths.left_behind(record, CAUSE, 1.0)]
        log.info("an earlier master of this name left %s: settling for them", counted(len(tenants), "slot"))
        waiting = set(range(len(letters)))
        for number, letter in enumerate(letters):
            source = letter.owed.source if isinstance(letter, Pay) else letter.source
            couriers.send(parted(source)[1], letter, _settled(letter, number, waiting, path), now)
        if not letters:
            _forget(path)


def _forget(board: pathlib.Path) -> None:
    ledger.path_beside(board).unlink(missing_ok=True)
    board.unlink(missing_ok=True)


def _settled(letter: Pay | SettleDead, number: int, waiting: set[int], path: pathlib.Path) -> Callable[[Reply], None]:
    def settled(reply: Reply) -> None:
        if isinstance(reply, Failed):  # the scoreboard stays: the next master tries again
            log.error("%s of an earlier master could not be settled: %s", letter.holder, reply.why)
            return
        waiting.discard(number)
        if not waiting:
            _forget(path)

    return settled
