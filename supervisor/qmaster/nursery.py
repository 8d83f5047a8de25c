"""Births and deaths of slots: orders them, hears that they live, tells them their queues, ends them, settles for them.

Of a slot it believes only what comes over the slot's own channel and what the kernel says of its death. A late word of
a dead tenant finds its channel closed and touches nobody.
"""

import logging
import os
import random
import select
import selectors
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from qslots import debts, orders
from qslots.reports import UNDECODABLE
from qslots.scoreboard import Field, Record, Scoreboard, boot_ns
from qslots.servers import parted
from qslots.states import SlotState
from qslots.units import counted

from . import deaths, linux
from .books import monotonic
from .children import Child, Children, Phase
from .couriers import Couriers
from .crashloops import QUICK
from .generations import Tally
from .ledger import Ledger
from .letters import Charged, Failed, Pay, Reply, SettleDead
from .losses import Losses
from .molds import Molds
from .reasons import Reason
from .reconcile import Action, Ask, Fork, Kill, Serve

log = logging.getLogger("qmaster")


@dataclass(frozen=True, slots=True)
class Seen:
    """The slots, by their records: which run a task, which have not come to their work yet; each generation's."""

    busy: frozenset[int]
    unready: frozenset[int]
    tallies: Mapping[int, Tally]


class Nursery:
    """The slots of one master."""

    def __init__(
        self, lineage: str, board: Scoreboard, molds: Molds, couriers: Couriers, selector: selectors.BaseSelector,
        ledger: Ledger,
    ) -> None:  # fmt: skip
        self.children = Children()
        self._lineage = lineage.split("/", 1)  # server name and incarnation: every holder's name is made of them
        self._board = board
        self._molds = molds
        self._couriers = couriers
        self._selector = selector
        self._channels: dict[str, socket.socket] = {}  # holder -> our end
        self._births = 0
        self.losses = Losses(self.children, couriers)
        self._ledger = ledger
        self.said: list[tuple[Child, orders.OfMemory]] = []  # by slots of their memory; the recycler takes it away
        self._memory_kills = deaths.MemoryKills(linux.memory_kills())

    def look_at_memory_kills(self) -> None:
        """Once a second: whose death came later than this is not told of as an older one's."""
        self._memory_kills.look(linux.memory_kills())

    def perform(self, action: Action, now: float) -> None:
        """Does what ``reconcile`` has said."""
        if isinstance(action, Fork):
            self._fork(action.index, action.queues, now)
            return
        child = self.children.tenants.get(action.index)
        if child is None:
            return
        match action:
            case Serve():
                self._tell(child, action.queues)
            case Ask():
                self._ask(child, action.why, now)
            case Kill():
                self.kill(child, action.why, action.reason)

    def record(self, index: int) -> Record:
        """The scoreboard record of a slot."""
        return self._board.record(index)

    def living(self) -> list[Child]:
        """The tenants that are born and not reaped, by index."""
        born = [child for child in self.children.tenants.values() if child.pid and child.phase < Phase.DEAD]
        return sorted(born, key=lambda child: child.index)

    def look(self) -> Seen:
        """What the slots' records say now, of all at once."""
        busy, unready, tallies = set(), set(), dict[int, Tally]()
        for child in self.children.tenants.values():
            words, known = self.record(child.index).words, tallies.get(child.generation, Tally())
            there = child.phase < Phase.DEAD
            worked, age = known.worked or words[Field.DONE] > 0, known.oldest
            if there and words[Field.TASK]:
                busy.add(child.index)
                age = max(age, (boot_ns() - words[Field.START]) / 1e9)
            if there and words[Field.STATE] <= SlotState.STARTING:
                unready.add(child.index)
            tallies[child.generation] = Tally(known.slots + there, worked, age)
        return Seen(frozenset(busy), frozenset(unready), tallies)

    def _fork(self, index: int, queues: tuple[str, ...], now: float) -> None:
        try:
            self._board.reserve(index)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            log.warning("slot %d cannot be made: %s", index, error)
            self.children.loops.hold_back(queues, now)
            return
        self._births += 1
        server, incarnation = self._lineage
        holder = f"{server}/{index}/{incarnation}.{self._births}"
        ours.setblocking(False)
        child = self.children.order(index, holder, self._molds.present, now, queues)
        self.record(index).clear(holder=holder, generation=self._molds.present)
        self._channels[holder] = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))
        try:
            self._molds.order(index, holder, theirs)
        except OSError as error:
            log.warning("slot %d could not be ordered: %s", index, error)
            self._never_born(child)
        finally:
            theirs.close()

    def _hear(self, child: Child) -> None:
        channel = self._channels.get(child.holder)
        if channel is None:
            return
        try:
            message = orders.receive(channel)
        except BlockingIOError:
            return
        except (ConnectionError, *UNDECODABLE):
            message = None
        match message:
            case orders.Born(pid) if child.pid is None:  # never again: a task that found the channel could name another
                child.pid = pid
                self.children.advance(child, Phase.LIVE, monotonic())
                self._molds.state.born(child.generation, monotonic())
            case orders.Stillborn(why):
                child.fault = why
                said = logging.DEBUG if self.losses.is_parked(child) else logging.ERROR
                log.log(said, "slot %d could not begin: %s", child.index, why)
            case debts.Owed():
                self._pay(child, message)
            case orders.Fresh() | orders.Tidied() | orders.Imported():
                self.said.append((child, message))
            case _ if child.pid is None:
                self._never_born(child)
            case _:
                self._hang_up(child.holder)

    def hear_the_unborn(self) -> None:
        """Birth messages that lie unread, before a death is told: a slot may be born and dead in one turn."""
        for child in list(self.children.tenants.values()):
            if child.phase is Phase.ORDERED:
                self._hear(child)

    def _pay(self, child: Child, owed: debts.Owed) -> None:
        """A slot could not settle a pack, its queue server being away: the courier of that server keeps at it."""
        log.debug("slot %d leaves pack %d of %s to be settled", child.index, owed.seq, owed.source)
        letter = Pay(child.holder, owed)
        self._ledger.owe(letter)

        def paid(reply: Reply) -> None:
            self._ledger.paid()
            if isinstance(reply, Failed):
                log.error("a pack of %s could not be settled: %s; its tasks may run again", owed.source, reply.why)

        self._couriers.send(parted(owed.source)[1], letter, paid, monotonic())

    def _never_born(self, child: Child) -> None:
        """The channel ended before a birth message: nobody lives there, and nothing was taken."""
        self._hang_up(child.holder)
        if self.children.tenants.get(child.index) is child:
            self.losses.never_born(child, monotonic())
            if child.why:  # we have waited in vain
                self._molds.state.not_born(child.generation)
            else:
                self._molds.state.died(child.generation, monotonic(), at_birth="before it said so", worked=False)
            self._free(child)

    def reaches(self, child: Child) -> bool:
        """Whether its channel is open on our side."""
        return child.holder in self._channels

    def poke(self, child: Child) -> None:
        """Wakes a slot that waits."""
        if self.reaches(child):
            orders.send(self._channels[child.holder], orders.Poke())

    def _hang_up(self, holder: str) -> None:
        channel = self._channels.pop(holder, None)
        if channel is not None:
            self._selector.unregister(channel)
            channel.close()

    def _tell(self, child: Child, queues: tuple[str, ...]) -> None:
        """A slot whose channel is full has not read its orders yet; a later turn tries again."""
        channel = self._channels.get(child.holder)
        if channel is not None and orders.send(channel, orders.Serve(queues)):
            child.queues = queues

    def _ask(self, child: Child, why: str, now: float) -> None:
        """To leave after its task: by SIGTERM, which interrupts a wait, and over its channel, as a task may have taken
        the signal for itself.
        """
        if self.children.advance(child, Phase.LEAVING, now, why) and child.pid:
            log.debug("slot %d (pid %d) is asked to leave: %s", child.index, child.pid, why)
            if self.reaches(child):
                orders.send(self._channels[child.holder], orders.Leave())
            os.kill(child.pid, signal.SIGTERM)

    def reopen_logs(self, path: str) -> None:
        """Tells every slot to open the log file anew; each does it between two packs."""
        for holder, channel in self._channels.items():
            if not orders.send(channel, orders.Reopen(path)):
                log.warning("%s could not be told to open the log file anew: it does not read", holder)

    def tidy(self, child: Child) -> bool:
        """Tells a slot to tidy between two packs; False if it cannot be told just now."""
        channel = self._channels.get(child.holder)
        return channel is not None and orders.send(channel, orders.Tidy())

    def kill(self, child: Child, why: str, reason: Reason = Reason.MASTER) -> None:
        """SIGKILL, once."""
        if child.pid is None:
            self._hear(child)  # it may have just been born
        if child.why:
            why = f"{why}; asked to: {child.why}"
        if not self.children.advance(child, Phase.KILLED, monotonic(), why):
            return
        child.killed = reason
        log.debug("slot %d (pid %s) is killed: %s", child.index, child.pid, why)
        if child.pid is None:
            self._never_born(child)
        else:
            os.kill(child.pid, signal.SIGKILL)

    def buried(self, child: Child, status: int) -> None:
        """A slot was reaped: settle exactly what its record says; then its index is free."""
        now = monotonic()
        record = self.record(child.index)
        by_kill = status & 0x7F == signal.SIGKILL and child.killed is None
        starved = by_kill and self._memory_kills.claim(linux.memory_kills())
        cause = deaths.cause_of(status, child.why, record, child.overdue, killed=child.killed, starved=starved)
        orderly = child.phase is Phase.LEAVING and status == 0 and not record.words[Field.TASK]
        if orderly:
            cause = deaths.Cause(cause.text, own=False, reason=Reason.LEFT)
        ran = record.words[Field.TASK] != 0
        expected = orderly or self.losses.is_parked(child) or (cause.reason == Reason.STOPPED and not ran)
        doing = f"{record.text('handler')} {record.text('task')}" if ran else "nothing"
        log.log(
            logging.DEBUG if expected else logging.WARNING,
            "slot %d (pid %d) %s, running %s, after %s",
            child.index, child.pid, f"left: {child.why}" if orderly else cause.text, doing,
            counted(record.words[Field.DONE], "task"),
        )  # fmt: skip
        self._last_words(child)
        self.losses.died(child, record, cause, now)
        self.children.advance(child, Phase.DEAD, now)
        quick = not child.why and now - child.ordered_at <= QUICK
        how = (child.fault and f"saying: {child.fault}") or cause.text
        worked = record.words[Field.DONE] > 0
        self._molds.state.died(child.generation, now, at_birth=how if quick else "", worked=worked)
        self._hang_up(child.holder)
        served = self._couriers.sources(child.queues)
        jitter, age = random.uniform(0.85, 1.15), now - child.ordered_at
        letters = deaths.left_behind(record, cause, jitter, served, died=boot_ns(), age=age)
        child.unsettled = [letter.source for letter in letters]
        for letter in letters:
            settled = partial(self._settled, child, letter, record.text("handler"))
            self._couriers.send(parted(letter.source)[1], letter, settled, now)
        if not letters:
            self._free(child)

    def _last_words(self, child: Child) -> None:
        """What a dead slot has said and nobody has heard: it may owe something."""
        while child.holder in self._channels and _is_readable(self._channels[child.holder]):
            self._hear(child)

    def _settled(self, child: Child, letter: SettleDead, handler: str, reply: Reply) -> None:
        if isinstance(reply, Failed):
            log.error(
                "slot %d could not be settled: %s; its tasks come back when their lock expires", child.index, reply.why
            )
        elif isinstance(reply, Charged):
            log.warning("%s", deaths.told(handler, letter, reply))
        child.unsettled.remove(letter.source)
        if not child.unsettled and self.children.tenants.get(child.index) is child:
            self._free(child)

    def free_held_up(self) -> None:
        """The place of a dead slot does not wait for a queue server that is away while others answer. Its settlement
        there is kept by the courier alone from now on.
        """
        for child in list(self.children.tenants.values()):
            if child.phase is Phase.DEAD and all(map(self._couriers.held_up, child.unsettled)):
                self._free(child)

    def _free(self, child: Child) -> None:
        self.record(child.index).clear()
        self.children.gone(child)


def _is_readable(channel: socket.socket) -> bool:
    """Whether something is there to be read; by poll: select takes no descriptor above 1,023."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))
