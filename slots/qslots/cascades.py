"""Tasks that wait for the success of the one that enqueued them: kept by the slot, sent with its settlement.

Either both happen or neither: one script puts them and settles. What the queue server refuses for their sake (its
memory is full, a queue of theirs is damaged) leaves the parent undone; it runs again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from .errors import HolderDead, QueueServerDown, QueueServerError, UsageError
from .keys import QUEUES, QueueKeys
from .outcomes import Backoff, Outcome, charged

MOST_KEPT = 1000  # tasks that one task may keep
MOST_BYTES = 4 << 20  # of their records
_encode = msgspec.msgpack.Encoder().encode


class Children(msgspec.Struct, array_like=True):
    """What one call has enqueued; ``head`` and ``when`` as ``QueueServer.put`` takes them."""

    queue: str
    handler: str
    head: bytes
    ids: list[str]
    bodies: list[bytes]
    when: str

    def size(self) -> int:
        """Bytes of the records."""
        return len(self.ids) * len(self.head) + sum(map(len, self.bodies))


Cascade = Mapping[int, Sequence[Children]]  # position of the parent (one of its pack's) -> what it has enqueued
NO_CASCADE: Cascade = {}


class Keep:
    """What one task has enqueued with its settlement."""

    __slots__ = ("_count", "_size", "children")

    def __init__(self) -> None:
        self.children: list[Children] = []
        self._count = self._size = 0

    def add(self, children: Children) -> None:
        """UsageError: it would be too much."""
        count, size = self._count + len(children.ids), self._size + children.size()
        if count > MOST_KEPT or size > MOST_BYTES:
            raise UsageError(
                f"task {children.handler}: one task keeps at most {MOST_KEPT:,} tasks of {MOST_BYTES >> 20} MB for its "
                "settlement: enqueue the others without with_settlement, or let several tasks enqueue a part each"
            )
        self._count, self._size = count, size
        self.children.append(children)

    def has(self, task_id: str) -> bool:
        """Whether this task is among them."""
        return any(task_id in children.ids for children in self.children)


def done(limit: int, backoff: Backoff, jitter: float) -> Outcome:
    """Success, and what the task is charged with where its children are refused."""
    return charged("done", "", limit, backoff, jitter)


def settled(
    say: Callable[[Mapping[int, Outcome], Cascade], bool], outcomes: Mapping[int, Outcome], cascade: Cascade
) -> bool:
    """``say`` settles. If it is refused for the children's sake, their parents have not succeeded, and that is said.

    A full memory is nobody's fault, so it is no failure: the task is tried again after its backoff.
    """
    try:
        return say(outcomes, cascade)
    except HolderDead:
        raise
    except QueueServerError as error:
        if not cascade or (isinstance(error, QueueServerDown) and error.code != "OOM"):
            raise
        kind = "retry" if isinstance(error, QueueServerDown) else "fail"
        why = f"what it has enqueued with its settlement was refused: {error}"
    return say({at: _refused(outcome, kind, why) for at, outcome in outcomes.items()}, {})


def _refused(outcome: Outcome, kind: str, why: str) -> Outcome:
    """Of a parent: what is done without children has no limit."""
    if outcome.kind != "done" or not outcome.limit:
        return outcome
    return msgspec.structs.replace(outcome, kind=kind, why=why)


def add(
    names: list[str], args: list[Any], cascade: Cascade, keys_of: Callable[[str], QueueKeys]
) -> tuple[bytes, bytes]:
    """Adds what the script ``cascade`` wants behind that of ``settle``; returns what says which is where."""
    calls = [(position, child) for position, children in cascade.items() for child in children]
    numbers: dict[str, int] = {}
    queues, told = [], []
    for queue in dict.fromkeys(child.queue for _, child in calls):
        vector, first = keys_of(queue), len(names) + 1
        names += vector.vector
        names += [
            vector.schedule(name) for name in dict.fromkeys(child.handler for _, child in calls if child.queue == queue)
        ]
        numbers[queue] = len(numbers) + 1
        queues.append((queue, first, first + len(vector.vector), len(names)))
    names.append(QUEUES)
    for position, child in calls:
        lengths = [len(body) for body in child.bodies]
        told.append((position, numbers[child.queue], child.handler, child.when, child.ids, lengths, len(args) + 1))
        args += [child.head, b"".join(child.bodies)]
    return _encode(queues), _encode(told)
