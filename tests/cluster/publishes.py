"""What the queue server itself says of reigns, maps and masters: its MONITOR, which shows each write of each script.

What a script was asked stands there too, but only what it has written counts here: a refused map is not in this
record. Of database 0.
"""

import ast
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
from support.servers import RedisServer
from support.waiting import wait_for

from qslots import keys
from qslots.reports import Report

_EPOCH = keys.EPOCH.encode()
_WRITE = re.compile(
    rb'\+([\d.]+) \[0 lua\] "HSET" "%s" "epoch" "(\d+)" "manager" "([^"]*)" "seq" "(\d+)"' % re.escape(_EPOCH)
)
_REPORT = re.compile(rb'\[0 lua\] "HSET" "%s" "([^"]*)" ("(?:[^"\\]|\\.)*")' % re.escape(keys.REPORTS.encode()))


@dataclass(frozen=True, slots=True)
class Publish:
    """An accepted map; with seq 0 the beginning of a reign."""

    at: float  # by the queue server's clock
    epoch: int
    manager: str
    seq: int

    @property
    def place(self) -> tuple[str, str]:
        """The node of the manager, and its pid there."""
        node, _, pid = self.manager.partition("/")
        return node, pid


@dataclass(slots=True)
class Publishes:
    """The record, from its beginning to ``close``; a server that is away is asked again."""

    server: RedisServer
    accepted: list[Publish] = field(default_factory=list)
    obeyed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # server -> epochs, in order
    _line: socket.socket | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def open(self) -> None:
        self._thread = threading.Thread(target=self._listen, name="publishes", daemon=True)
        self._thread.start()
        wait_for(lambda: self._line, "the queue server to show what it does")

    def close(self) -> None:
        self._ended.set()
        if self._line is not None:
            self._line.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._ended.wait(0.01):
            try:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(str(self.server.socket))
                    line.sendall(b"MONITOR\r\n")
                    self._line = line
                    for said in line.makefile("rb"):
                        self._note(said)
            except OSError:
                continue  # it is away

    def _note(self, said: bytes) -> None:
        if b" lua]" not in said:
            return
        if found := _WRITE.match(said):
            at, epoch, manager, seq = found.groups()
            self.accepted.append(Publish(float(at), int(epoch), manager.decode(), int(seq)))
        elif found := _REPORT.search(said):
            raw = ast.literal_eval("b" + found[2].decode("ascii"))
            self.obeyed[found[1].decode()].append(msgspec.msgpack.decode(raw, type=Report).epoch)

    @property
    def last(self) -> Publish:
        return self.accepted[-1]

    def since(self, at: float) -> list[Publish]:
        return [each for each in self.accepted if each.at >= at]

    def first(self, wanted: Callable[[Publish], bool], within: float) -> Publish:
        """The first of these, once there is one."""
        found = wait_for(
            lambda: [each for each in self.accepted if wanted(each)],
            lambda: f"a map; accepted were {self.accepted[-5:]}", within,
        )  # fmt: skip
        return found[0]

    def next_reign(self, former: Publish, within: float) -> Publish:
        """The first map under a higher epoch."""
        return self.first(lambda each: each.epoch > former.epoch and each.seq > 0, within)

    def faults(self) -> list[str]:
        """What must never be: an epoch of two managers, one that goes back, a map out of order."""
        found = []
        for before, after in pairwise(self.accepted):
            if after.epoch == before.epoch and after.manager != before.manager:
                found.append(f"two managers in one epoch: {before}, {after}")
            if (after.epoch, after.seq) <= (before.epoch, before.seq):
                found.append(f"{after} was accepted after {before}")
        for server, epochs in self.obeyed.items():
            found += [f"{server} went back from epoch {a} to {b}" for a, b in pairwise(epochs) if b < a]
        return found
