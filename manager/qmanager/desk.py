"""What a manager does besides its cycles: it hears signals, answers its control socket, tells the service manager.

All of it is done between two cycles and never waits. It decides nothing but when to end.
"""

import logging
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from qslots.daemon import requests
from qslots.daemon.controlsocket import ControlSocket, Reply
from qslots.daemon.notices import ServiceManager, State
from qslots.daemon.requests import Status
from qslots.units import counted

from .place import Place, seconds, socket_in

log = logging.getLogger("qmanager")
LATE = 8  # looks at the control socket after the next cycle has become due
_decoder = msgspec.json.Decoder(Status)


def read(line: bytes) -> Status:
    """The request of a line. UsageError with what is wrong with it."""
    found: Status = requests.read(line, _decoder, [requests.command(Status)])
    return found


@dataclass(slots=True)
class Vitals:
    """How the manager is; its loop writes here."""

    manager: str
    url: str  # of the first queue server, fit to be shown
    stage: str = "starting"  # standby, reigning
    epoch: int | None = None
    seq: int | None = None
    published: float | None = None  # when, by the clock of ``place``
    cycle: float | None = None  # seconds that the last whole one took
    faults: int = 0  # cycles in a row that have failed by a fault of ours
    servers: int = 0
    queues: int = 0
    down: str = ""  # why the first queue server does not answer
    since: float = field(default_factory=time.time)

    def document(self) -> dict[str, Any]:
        """As ``qmanager status --json`` prints it; times in seconds."""
        return {
            "manager": self.manager,
            "pid": os.getpid(),
            "stage": self.stage,
            "since": self.since,
            "epoch": self.epoch,
            "seq": self.seq,
            "age": None if self.published is None else round(seconds() - self.published, 3),
            "cycle": self.cycle,
            "faults": self.faults,
            "servers": self.servers,
            "queues": self.queues,
            "queue_server": self.url,
            "queue_server_down": self.down,
        }

    def line(self) -> str:
        """The same in a few words."""
        reign = self.stage if self.epoch is None else f"{self.stage}, epoch {self.epoch}"
        return f"{reign}, {counted(self.servers, 'server')}, {counted(self.queues, 'queue')}" + (
            ", the queue server does not answer" if self.down else ""
        )


class Desk:
    """Serves between cycles."""

    def __init__(self, place: Place, vitals: Vitals) -> None:
        self.vitals = vitals
        self.stopping = False
        self._place = place
        self._said: float | None = None
        self._dumb = False  # whether that could not be written
        self._service = ServiceManager(os.environ)
        self._selector = selectors.DefaultSelector()
        self._control = ControlSocket(
            socket_in(place.folder), self._selector, who="qmanager", read=read, answer=self._answer
        )
        self._listen_to_signals()

    def _listen_to_signals(self) -> None:
        ours, self._waker = socket.socketpair()
        ours.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(4096))

    def _told_to_stop(self, *_: object) -> None:
        self.stopping = True

    def _answer(self, _: Status, reply: Reply) -> None:
        reply(self.vitals.document())

    def serve(self, until: float) -> None:
        """Until then (monotonic), or until told to stop. Who asks is answered also where cycle follows cycle."""
        self._say()
        late = 0
        while not self.stopping and late < LATE:
            now = time.monotonic()
            again = min(until, self._control.check(now), self._service.check(State.RUNNING, self.vitals.line(), now))
            events = self._selector.select(max(0.0, again - now))
            for key, _ in events:
                if self._selector.get_map().get(key.fd) is key:  # it may be closed by now, its number another's
                    key.data()
            if time.monotonic() >= until:
                late += 1 if events else LATE

    def _say(self) -> None:
        """To whoever looks from outside, and cannot ask: see ``place``."""
        if self.vitals.published in (None, self._said):
            return
        try:
            self._place.say(self.vitals.published)
        except OSError as error:
            if not self._dumb:
                why = error.strerror
                log.warning("%s cannot be written: %s; pacemaker's agent takes us for dead", self._place.folder, why)
            self._dumb = True
            return
        self._said, self._dumb = self.vitals.published, False

    def close(self) -> None:
        """The end, in good order."""
        self._service.check(State.STOPPING, "stopping", time.monotonic())
        self._control.close()
