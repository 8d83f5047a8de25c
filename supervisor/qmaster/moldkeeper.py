"""Keeps one mold: starts it, hears its report, orders slots from it, makes another when it is gone.

It only keeps state (``ready``, ``fault``); what follows from it is the master's to decide.
"""

import contextlib
import logging
import os
import selectors
import socket
from dataclasses import dataclass

from qslots.reports import Declared
from qslots.settings import Settings
from qslots.units import counted, size

from . import molding
from .findings import pressing
from .identity import MARK, Identity
from .spawn import spawn

log = logging.getLogger("qmaster")
AGAIN = 5.0  # seconds before a mold that died or refused is made again


@dataclass(slots=True)
class Mold:
    """The present mold."""

    pid: int
    commands: socket.socket
    generation: int
    ready: molding.Ready | None = None


class MoldKeeper:
    """One mold after the other."""

    def __init__(self, settings: Settings, who: Identity, selector: selectors.BaseSelector) -> None:
        self._settings = settings
        self._who = who
        self._selector = selector
        self.mold: Mold | None = None
        self.generation = 0
        self.again_at: float | None = None  # when to make the next one
        self.fault = ""  # why the last one failed
        self.ready: molding.Ready | None = None  # of the newest mold that ever was ready

    @property
    def declared(self) -> Declared:
        """What the application declares, as far as it is known."""
        return self.ready.declared if self.ready is not None else Declared(())

    @property
    def can_fork(self) -> bool:
        """Whether slots can be ordered now."""
        return self.mold is not None and self.mold.ready is not None

    def start(self) -> None:
        """Spawns a mold; it reports when it is ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.generation += 1
        self.again_at = None
        descriptors = [theirs.fileno(), self._who.board.descriptor, self._who.lock]
        pid = spawn("qmaster.mold", descriptors, **{MARK: self._who.place})
        theirs.close()
        settings = self._settings
        begin = molding.Begin(
            settings.app, self.generation, settings.queue_servers, settings.queues, os.getpid(), settings.log_level,
            size(settings.server.private_limit),
        )  # fmt: skip
        molding.send(ours, begin)
        ours.setblocking(False)
        self.mold = Mold(pid, ours, self.generation)
        self._selector.register(ours, selectors.EVENT_READ, self._said)

    def order(self, index: int, holder: str, channel: socket.socket) -> None:
        """Orders a slot; it speaks up on the channel, or the channel ends. OSError if the mold cannot hear."""
        assert self.mold is not None
        molding.send(self.mold.commands, molding.Fork(index, holder), channel.fileno())

    def reopen_logs(self, path: str) -> None:
        """Tells the mold; one that cannot hear is about to be replaced."""
        if self.mold is not None:
            with contextlib.suppress(OSError):
                molding.send(self.mold.commands, molding.Reopen(path))

    def check(self, now: float) -> None:
        """Makes another mold when it is time."""
        if self.mold is None and self.again_at is not None and now >= self.again_at:
            self.start()

    def _said(self) -> None:
        mold = self.mold
        if mold is None:
            return
        try:
            message, _ = molding.receive(mold.commands)
        except BlockingIOError:
            return
        match message:
            case molding.Ready():
                mold.ready = self.ready = message
                queues = message.declared.queues
                log.info(
                    "mold gen %d is ready after %.1f s: %s in %s, %d modules, %d MB", mold.generation, message.seconds,
                    counted(sum(len(queue.handlers) for queue in queues), "handler"), counted(len(queues), "queue"),
                    message.modules, message.pss >> 20,
                )  # fmt: skip
                for finding in pressing(message.findings):
                    log.warning("mold gen %d: %s", mold.generation, finding)
            case molding.Refused():
                self.fault = message.why
            case _:
                self._selector.unregister(mold.commands)

    def gone(self, how: str, now: float) -> None:
        """The mold was reaped. Slots do not notice; new ones wait for the next mold."""
        mold = self.mold
        if mold is None:
            return
        if mold.commands.fileno() in self._selector.get_map():
            self._said()  # its last words
        if mold.commands.fileno() in self._selector.get_map():
            self._selector.unregister(mold.commands)
        mold.commands.close()
        self.mold = None
        why, self.fault = self.fault or f"app {', '.join(self._settings.app)}: the mold {how}", ""
        self.again_at = now + AGAIN
        if self.ready is None:
            self.fault = why
        else:
            log.error("%s; another mold is made in %.0f s, slots work on", why, AGAIN)
