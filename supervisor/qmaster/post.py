"""The master's side of one courier: sends letters, keeps those that matter until they are answered, replaces a courier
that is late or gone. It never waits: everything goes over a non-blocking wire.
"""

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from qslots.connection import without_password
from qslots.errors import Error
from qslots.reports import UNDECODABLE

from .letters import (
    KEPT,
    Answer,
    Connect,
    Failed,
    Join,
    Leave,
    Letter,
    Measure,
    Park,
    Pay,
    Reopen,
    Reply,
    Request,
    SaveState,
    SettleDead,
    encode,
    read_answer,
)  # fmt: skip
from .spawn import spawn
from .wire import Wire

log = logging.getLogger("qmaster")
LATE = 10.0  # seconds without an answer after which a courier is replaced
AGAIN = 1.0  # seconds before a kept letter that met a dead queue server is sent again
_UNDONE = (SettleDead, Pay, Park, Leave)  # what outlives a courier

OnReply = Callable[[Reply], None]


@dataclass(slots=True)
class Sent:
    """A letter under way."""

    letter: Letter
    on_reply: OnReply
    at: float
    again_at: float | None = None  # it failed for now; to be sent again then


class Post:
    """One courier after the other, for the queue server of this name."""

    def __init__(self, name: str, connect: Connect | Join, selector: selectors.BaseSelector) -> None:
        self.name = name
        self.url = without_password(connect.url)
        self._connect = connect
        self._selector = selector
        self._sent: dict[int, Sent] = {}
        self._number = 0
        self._wire: Wire | None = None
        self._closing = False
        self._heard_at = 0.0  # when the courier has last answered
        self._began_at = float("-inf")  # when it was started
        self._start_at: float | None = None  # when another one is to be, if there is none
        self.pid: int | None = None
        self.connected = False  # whether the queue server knows us
        self.refused = ""  # why the queue server will not have us; "" while it will
        self.down = ""  # why the queue server does not answer; "" while it does
        self.serves_nobody = False  # nor anybody else, as far as can be known

    def start(self, now: float) -> None:
        """Spawns a courier; it connects first, then does what an earlier one has left undone. If there is no process or
        descriptor to be had for it, another turn tries again.
        """
        self._start_at = now + AGAIN
        try:
            self.pid, self._wire = _spawned()
        except OSError as error:
            self._noticed(f"no courier can be started: {error.strerror}")
            return
        self._start_at = None
        self._began_at = now
        self._selector.register(self._wire.sock, selectors.EVENT_READ, self._read)
        before, self._sent = self._sent, {}
        self.send(self._connect, self._registered, now)
        for sent in before.values():
            if isinstance(sent.letter, _UNDONE):
                self.send(sent.letter, sent.on_reply, now)
            elif sent.letter is not self._connect:  # to be asked anew
                sent.on_reply(Failed("down", "its courier is gone"))

    def send(self, letter: Letter, on_reply: OnReply, now: float) -> None:
        """Sends a letter; its reply comes to ``on_reply`` in a later turn. Between couriers only what is kept stays."""
        self._number += 1
        self._sent[self._number] = Sent(letter, on_reply, now)
        self._post(self._number)

    def _post(self, number: int) -> None:
        if self._wire is None:
            return
        try:
            self._wire.send(encode(Request(number, self._sent[number].letter)))
        except (BrokenPipeError, ConnectionError):
            self._hang_up()
        else:
            self._watch_backlog()

    def _watch_backlog(self) -> None:
        if self._wire is not None:
            writing = selectors.EVENT_WRITE if self._wire.backlog else 0
            self._selector.modify(self._wire.sock, selectors.EVENT_READ | writing, self._read)

    def _read(self) -> None:
        if self._wire is None:
            return
        try:
            self._wire.flush()
            answers = [read_answer(message) for message in self._wire.receive()]
        except (EOFError, ConnectionError):
            self._hang_up()
            return
        except (Error, *UNDECODABLE) as error:
            log.error("the courier of %s cannot be understood and is replaced: %s", self.name, error)  # noqa: TRY400
            self._end()
            return
        self._watch_backlog()
        for answer in answers:
            self._heard_at = time.monotonic()
            self._answered(answer)

    def _answered(self, answer: Answer) -> None:
        sent = self._sent.get(answer.number)
        if sent is None:
            return
        reply = answer.reply
        if isinstance(reply, Failed) and reply.code == "down":
            self._noticed(reply.why)
            self.serves_nobody = reply.serves_nobody
            if isinstance(sent.letter, KEPT):
                sent.again_at = sent.at = self._heard_at + AGAIN  # not from its sending: a time-out is longer
                return
        elif not isinstance(sent.letter, Measure | SaveState | Reopen):  # these ask nothing of the queue server
            self._noticed("")
            self.serves_nobody = False
        del self._sent[answer.number]
        sent.on_reply(reply)

    def _registered(self, reply: Reply) -> None:
        if not isinstance(reply, Failed):
            self.connected = True
        elif reply.code == "TAKEN":
            self.refused = (
                f"a qmaster of the name {self._connect.server} is alive elsewhere ({reply.why}): "
                "stop it, or give this one another --server name"
            )
        else:
            self.refused = reply.why
            if isinstance(self._connect, Join):
                log.error("queue server %s cannot be served: %s", self.name, reply.why)

    def _noticed(self, why: str) -> None:
        first = isinstance(self._connect, Connect)
        if why and not self.down and (self.connected or not first):
            rest = "slots go on with the last map" if first else "its share waits, slots go on with the others"
            log.warning("%s: %s; %s", self.name, why, rest)
        elif self.down and not why:
            log.info("queue server %s answers again", self.name)
        self.down = why

    def check(self, now: float) -> None:
        """Sends again what is due; replaces a courier that is late."""
        if self._start_at is not None and now >= self._start_at:
            self.start(now)
        for number, sent in list(self._sent.items()):
            if sent.again_at is not None:
                if now >= sent.again_at:
                    sent.again_at, sent.at = None, now
                    self._post(number)
            elif now - max(sent.at, self._heard_at) > LATE and self._wire is not None:
                log.error("the courier of %s has not answered for %.0f s; it is replaced", self.name, LATE)
                self._end()
                return

    def postpone(self, seconds: float) -> None:
        """The master was not there for so long: no courier is late on that account."""
        self._heard_at += seconds
        for sent in self._sent.values():
            sent.at += seconds

    def next_check(self) -> float:
        """When ``check`` has something to do at the earliest."""
        if self._wire is None:  # one that was killed is reaped first
            return self._start_at if self._start_at is not None else float("inf")
        return min(
            (
                sent.again_at if sent.again_at is not None else max(sent.at, self._heard_at) + LATE
                for sent in self._sent.values()
            ),
            default=float("inf"),
        )

    def undone(self, *kinds: type[Letter]) -> int:
        """Letters (of these kinds) that must not be lost and are not answered yet."""
        return sum(isinstance(sent.letter, kinds or _UNDONE) for sent in self._sent.values())

    def _end(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._selector.unregister(self._wire.sock)
            self._wire.close()
            self._wire = None

    def exited(self, now: float) -> None:
        """The courier was reaped. Others follow it one a second at most."""
        self._hang_up()
        self.pid = None
        if not self._closing:
            log.warning("the courier of %s is gone; another one is started", self.name)
            self._start_at = max(now, self._began_at + AGAIN)

    def close(self) -> None:
        """No more letters: the courier ends when it sees the end of the wire."""
        self._closing, self._start_at = True, None
        self._hang_up()


def _spawned() -> tuple[int, Wire]:
    """A courier and our end of the wire to it. OSError if there cannot be one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        try:
            pid = spawn("qmaster.courier", [theirs.fileno()])
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    return pid, Wire(ours)
