"""The molds of one master: spawns them, hears their reports, orders slots, ends them. Two at most, one a generation.

What is to be done is decided by ``generations``; here it is done. It never waits for a mold: what a mold says comes
through the selector, its death through the master's reaper. It never touches a file: settings are read by the mold.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qslots.reports import UNDECODABLE, Declared
from qslots.settings import Settings
from qslots.units import counted

from . import molding
from .books import monotonic
from .findings import pressing
from .generations import AGAIN, Cause, End, Free, Generations, Prove, Refuse, Start, State, View, decide
from .identity import MARK, Identity
from .revision import Source, changes
from .spawn import spawn

log = logging.getLogger("qmaster")
MUTE = 1.0  # seconds from the end of a mold's socket to its own
MEASURED_WITHIN = 3.0  # seconds after which the memory of slots that have left shows as available


@dataclass(slots=True)
class Mold:
    """The process of one generation."""

    number: int
    pid: int
    commands: socket.socket
    settings: Settings
    ready: molding.Ready | None = None
    why: str = ""  # it has refused
    mute_since: float | None = None  # its socket is at its end, or brought what nobody understands


@dataclass(slots=True)
class Waiting:
    """Who wants to hear what becomes of a reload; ``number`` None: of the one that is not begun yet."""

    told: Callable[[dict[str, Any]], None]
    number: int | None = None


class Molds:
    """The mold in force and the one that comes or goes."""

    def __init__(self, settings: Settings, source: Source, who: Identity, selector: selectors.BaseSelector) -> None:
        self.settings = settings  # of the generation in force
        self._source = source
        self._who = who
        self._selector = selector
        self._molds: dict[int, Mold] = {}
        self._waiting: list[Waiting] = []
        self.state = Generations()
        self.ready: molding.Ready | None = None  # of the generation in force
        self.fault = ""  # why there never was a generation in force
        self.short = 0  # bytes that idle slots are to make free for the mold that is to come
        self._way: frozenset[int] = frozenset()
        self._way_at = float("-inf")

    @property
    def declared(self) -> Declared:
        """What the application declares, as far as it is known."""
        return self.ready.declared if self.ready is not None else Declared(())

    @property
    def present(self) -> int:
        """The number of the generation in force, or of the first while it is loading."""
        return self.state.present or self.state.last

    @property
    def pid(self) -> int:
        """The mold in force, 0 if it is dead."""
        mold = self._molds.get(self.state.present)
        return mold.pid if mold is not None else 0

    @property
    def pids(self) -> set[int]:
        """All molds that are not reaped yet."""
        return {mold.pid for mold in self._molds.values()}

    def begin(self, now: float) -> None:
        """Spawns the first mold; ``fault`` says why if there cannot be one."""
        try:
            self.start(now)
        except OSError as error:
            self.fault = f"a mold cannot be made: {error.strerror}"

    def start(self, now: float, cause: Cause = Cause.START) -> None:
        """Spawns a mold; it reports when it is ready. OSError if there is no process or descriptor to be had."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = [theirs.fileno(), self._who.board.descriptor, self._who.lock]
            try:
                pid = spawn("qmaster.mold", descriptors, **{MARK: self._who.place})
            except OSError:
                ours.close()
                raise
        number = self.state.started(cause, now)
        source = self._source if cause is Cause.RELOAD else None
        with contextlib.suppress(ConnectionError):  # it is dead already: the reaper will tell
            molding.send(ours, molding.Begin(number, self.settings, os.getpid(), source))
        ours.setblocking(False)
        mold = self._molds[number] = Mold(number, pid, ours, self.settings)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._said(mold))
        if cause is not Cause.START:
            log.info("generation %d is loading: %s", number, cause)

    def order(self, index: int, holder: str, channel: socket.socket) -> None:
        """Orders a slot; it speaks up on the channel, or the channel ends. OSError if the mold cannot hear."""
        molding.send(self._molds[self.state.present].commands, molding.Fork(index, holder), channel.fileno())

    def reopen_logs(self, path: str) -> None:
        """Tells the molds; one that cannot hear is about to be replaced."""
        for mold in self._molds.values():
            with contextlib.suppress(OSError):
                molding.send(mold.commands, molding.Reopen(path))

    def retiring(self, generations: dict[int, int]) -> dict[int, str]:
        """The slots (index -> generation) whose generation was dropped, and why they are to leave."""
        dropped = self.state.dropped
        return {i: f"generation {n} was dropped: {dropped[n]}" for i, n in generations.items() if n in dropped}

    def make_way(self, idle: list[int], slot_size: int, now: float) -> dict[int, str]:
        """The idle slots that are to leave for the mold that is to come, all but one at most, and why. Who leaves is
        measured before more are chosen.
        """
        if not self.short:
            self._way, self._way_at = frozenset(), float("-inf")
        elif now - self._way_at >= MEASURED_WITHIN:
            count = min(-(-self.short // max(1, slot_size)), len(idle) - 1)
            self._way, self._way_at = frozenset(idle[len(idle) - max(0, count) :]), now
        return dict.fromkeys(self._way, "room is made for a second mold")

    def check(self, view: View, now: float) -> None:
        """Does what is to be done now."""
        self.short = 0
        self._end_the_mute(now)
        if self.state.succeeded(view, now) and self.state.outcome is not None:
            self.state.outcome.done = True
            log.info("generation %d is at work, no slot of an older one is left", self.state.present)
        self._tell_those_who_wait()
        for action in decide(self.state, view, now):
            match action:
                case Start(cause):
                    self._begin(cause, now)
                case Prove(number):
                    self.state.proven(number)
                case End(number, why, failed):
                    self._end(number, why, failed=failed)
                case Free(short):
                    self.state.freeing(now)
                    self.short = short
                case Refuse(why):
                    log.error("a reload is refused: %s", why)
                    self.state.refused(why)

    def _end_the_mute(self, now: float) -> None:
        """A mold that ends is gone by then; of one that lives nobody will ever hear again."""
        for mold in self._molds.values():
            if mold.mute_since is not None and now - mold.mute_since > MUTE:
                mold.why = f"app {', '.join(mold.settings.app)} has closed or used descriptor 3, its mold's own"
                mold.mute_since = None
                os.kill(mold.pid, signal.SIGKILL)

    def _begin(self, cause: Cause, now: float) -> None:
        try:
            self.start(now, cause)
        except OSError as error:  # no process, no descriptors: slots work on
            why = f"a mold cannot be made: {error}"
            log.error("%s; slots work on", why)  # noqa: TRY400 - the message says all
            self.state.put_off(why, now)
            return
        for each in self._waiting:
            each.number = each.number or self.state.last

    def ask(self, cause: Cause, view: View, told: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """A reload is wanted. Returns what follows from that; ``told`` is called when it has become something."""
        self.state.ask(cause)
        if told is not None:
            self._waiting.append(Waiting(told))
        return {"ok": True, "generation": self.state.last + 1, "why": self.state.waits_for(view)}

    def _tell_those_who_wait(self) -> None:
        outcome = self.state.outcome
        if outcome is None or outcome.done is None:
            return
        for each in self._waiting[:]:
            if self.state.asked is None if each.number is None else each.number <= (outcome.number or 0):
                self._waiting.remove(each)
                each.told({"ok": outcome.done, "generation": outcome.number or self.present, "why": outcome.why})

    def _end(self, number: int, why: str, *, failed: bool) -> None:
        os.kill(self._molds[number].pid, signal.SIGKILL)
        self.state.ended(number, why, failed=failed)
        self._follow()
        if failed:
            self._failed(number, why)
        else:
            log.info("the mold of generation %d ends: %s", number, why)

    def _said(self, mold: Mold) -> None:
        try:
            message, _ = molding.receive(mold.commands)
        except BlockingIOError:
            return
        except UNDECODABLE:
            message = None
        match message:
            case molding.Ready():
                self._is_ready(mold, message)
            case molding.Refused(why):
                mold.why = why
            case _:  # it is ending
                self._selector.unregister(mold.commands)
                mold.mute_since = monotonic()

    def _is_ready(self, mold: Mold, ready: molding.Ready) -> None:
        mold.ready = ready
        queues = ready.declared.queues
        log.info(
            "mold gen %d is ready after %.1f s: %s in %s, %d modules, %d MB", mold.number, ready.seconds,
            counted(sum(len(queue.handlers) for queue in queues), "handler"), counted(len(queues), "queue"),
            ready.modules, ready.pss >> 20,
        )  # fmt: skip
        for finding in pressing(ready.findings):
            log.warning("mold gen %d: %s", mold.number, finding)
        if ready.settings is not None:
            self._tell_of_settings(mold, ready.settings, ready.later)
        self.state.loaded(mold.number, monotonic())
        self._follow()

    def _tell_of_settings(self, mold: Mold, found: Settings, later: list[str]) -> None:
        """What the next generation is to work with, in one line."""
        said = [*changes(mold.settings, found), *([f"a restart is needed for {', '.join(later)}"] if later else [])]
        if said:
            log.info("settings of generation %d: %s", mold.number, "; ".join(said))
        mold.settings = found
        if later and self.state.outcome is not None:
            self.state.outcome.why = said[-1]

    def gone(self, pid: int, how: str, now: float) -> None:
        """A mold was reaped. Slots do not notice."""
        mold = next(mold for mold in self._molds.values() if mold.pid == pid)
        for _ in range(2):  # its last words, and the end
            if mold.commands.fileno() in self._selector.get_map():
                self._said(mold)
        if mold.commands.fileno() in self._selector.get_map():
            self._selector.unregister(mold.commands)
        mold.commands.close()
        was = self.state.molds[mold.number].state
        why = mold.why or f"app {', '.join(mold.settings.app)}: the mold {how}"
        in_force = mold.number == self.state.present
        self.state.gone(mold.number, why, now)
        del self._molds[mold.number]
        self._follow()
        if was is State.LOADING or (mold.number in self.state.dropped and was is not State.ENDING):
            self._failed(mold.number, why)
        elif in_force and was is not State.ENDING:
            log.error("%s; another mold is made in %.0f s, slots work on", why, AGAIN)
        elif was is not State.ENDING:
            log.warning("generation %d: the mold %s; its slots work on", mold.number, how)

    def _failed(self, number: int, why: str) -> None:
        if not self.state.present:
            self.fault = why
            return
        going_on = f"generation {self.state.present} goes on" if self.state.can_fork else "slots work on"
        log.error("generation %d is given up: %s; %s", number, why, going_on)

    def _follow(self) -> None:
        """Settings and declarations are those of the generation in force, its mold alive or not."""
        mold = self._molds.get(self.state.present)
        if mold is not None and mold.ready is not None:
            self.ready, self.settings = mold.ready, mold.settings

    def status(self, view: View, pss: Callable[[int], int | None]) -> list[dict[str, Any]]:
        """The generations that have a mold or a slot."""
        numbers = self.state.molds.keys() | {number for number, tally in view.tallies.items() if tally.slots}
        return [self._described(number, view, pss) for number in sorted(numbers)]

    def _described(self, number: int, view: View, pss: Callable[[int], int | None]) -> dict[str, Any]:
        known, mold = self.state.molds.get(number), self._molds.get(number)
        dropped = self.state.dropped.get(number, "")
        return {
            "number": number,
            "state": known.state.value if known is not None else "dropped" if dropped else "orphaned",
            "pid": mold.pid if mold is not None else None,
            "slots": view.of(number).slots,
            "pss": pss(mold.pid) if mold is not None else None,
            "modules": mold.ready.modules if mold is not None and mold.ready is not None else None,
            "why": known.why if known is not None else dropped,
        }

    def reload_status(self, view: View) -> dict[str, Any] | None:
        """The reload that waits or is under way, or what became of the last one; None if there was none."""
        outcome, asked = self.state.outcome, self.state.asked
        if asked is not None:
            return {"cause": asked.cause, "generation": None, "stage": "waiting", "why": self.state.waits_for(view)}
        if outcome is None:
            return None
        if outcome.done is None:
            stage = "replacing" if outcome.number == self.state.present else "loading"
            why = self.state.waits_for(view)
        else:
            stage, why = "done" if outcome.done else "failed", outcome.why
        return {"cause": outcome.cause, "generation": outcome.number, "stage": stage, "why": why}
