"""Runs packs as a slot does, without a queue server: what would be told to it is noted."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import qslots
from qslots.cascades import NO_CASCADE, Cascade, Children
from qslots.handlers import Handler
from qslots.outcomes import Outcome
from qslots.queueserver import Kept, Pack
from qslots.records import header
from qslots.scoreboard import Field, Record
from qslots.tasks import TaskFunction
from qslots.worker import Worker

OURS = str(pathlib.Path(qslots.__file__).parent)  # what is told of an error shows no frame from there


class Runs:
    """A pack of one handler, run as a slot does; what is told to the queue server is noted."""

    def __init__(self, record: Record, function: TaskFunction[..., Any], *bodies: bytes, signature: int = -1) -> None:
        handler = function.handler
        known = handler.arguments.signature if signature < 0 else signature
        records = [bytes(8) + header(handler.name, known) + b"\1" + body for body in bodies]
        names = [f"t{n}".encode() for n in range(1, len(bodies) + 1)]
        self.pack = Pack(handler.name, names, records, [None] * len(bodies), 0.0, 0.0)
        self.told: dict[int, Outcome] = {}
        self.record = record
        self.handler: Handler = handler
        self.kept: dict[int, Kept] = {}
        self.cascade: dict[int, Sequence[Children]] = {}
        self.reports = 0
        self.lock_is_gone = False
        self.deadline_when_told = -1
        self.why_park = ""
        record.hold(1, b"q", handler.name.encode(), len(bodies))

    def report(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
        self.told |= outcomes
        self.cascade |= cascade
        self.kept |= kept
        self.reports += 1
        self.deadline_when_told = self.record.words[Field.DEADLINE]
        return not self.lock_is_gone

    def run(self, may_go_on: Callable[[int], bool] = lambda _: True) -> tuple[int, bool]:
        worker = Worker(self.record, self.report, may_go_on)
        try:
            ended = worker.run(self.handler, self.pack)
            self.why_park = worker.why_park
            return ended
        finally:
            worker.close()

    def marks(self) -> list[int]:
        return list(self.record.marks[: len(self.pack.ids)])


def body(function: TaskFunction[..., Any], *args: object) -> bytes:
    return function.handler.arguments.body(args, {})
