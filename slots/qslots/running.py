"""What runs in this process just now, the ids of what it enqueues, and what of that waits for its success.

A slot runs one task at a time, so one object of the process says which, and beginning a task costs next to nothing. Of
coroutines many run at once: each has its own object in its context, which asyncio hands on to whatever it starts. The
ids of children are derived from their parent's, so that a second run of a task puts the same ones and doubles none.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from .cascades import NO_CASCADE, Cascade, Children, Keep
from .handlers import Handler
from .scoreboard import Record

_COUNTING = threading.Lock()  # a handler may enqueue in threads of its own


class Work(Protocol):
    """The pack that is under work."""

    @property
    def handler(self) -> Handler: ...
    @property
    def record(self) -> Record: ...
    @property
    def source(self) -> str: ...
    @property
    def url(self) -> str: ...
    def task(self, position: int) -> Any: ...
    def trace(self, position: int) -> bytes: ...


class Running:
    """One running task, or a pack whose handler has it as a whole; ``parent`` is None while nothing runs.

    ``position`` 0: the scoreboard knows it.
    """

    __slots__ = ("_alike", "enqueued", "kept", "parent", "position", "postpone", "still", "until", "work")

    def __init__(self, parent: str | None = None, *, work: Work | None = None, position: int = 0) -> None:
        self.parent = parent
        self.work = work
        self.position = position
        self.enqueued = 0
        self.kept: Keep | None = None  # what it has enqueued with its settlement
        # Of one beside others: sets its soft limit (seconds from now; False if it has none) and its deadline (ns).
        self.postpone: Callable[[float], bool] | None = None
        self.until: Callable[[int], None] | None = None
        self.still: Callable[[], float] = float  # seconds that nothing could run beside it, all in all
        self._alike: Counter[bytes] | None = None

    @classmethod
    def beside_others(cls, parent: str, work: Work, position: int) -> "Running":
        """One whose own parts run beside each other too (``gather``), so that the order of what they enqueue differs
        from run to run: children are told apart by their content, and numbered among equals only.
        """
        made = cls(parent, work=work, position=position)
        made._alike = Counter()
        return made

    def begin(self, task_id: str | None) -> None:
        """A task begins, or with None the last one is over."""
        self.parent = task_id
        self.enqueued = 0
        self.kept = None

    def keep(self, children: Children) -> None:
        """Keeps what was enqueued with its settlement. UsageError: it is too much."""
        with _COUNTING:
            kept = self.kept or Keep()
            kept.add(children)
            self.kept = kept

    def left_by(self, position: int) -> Cascade:
        """What is to be sent with its settlement, as that of the task in this position of the pack."""
        return NO_CASCADE if self.kept is None else {position: self.kept.children}

    def trace(self) -> bytes:
        """The trace that it belongs to; b"" if it has none."""
        return self.work.trace(self.position) if self.work is not None and self.parent is not None else b""

    def child_ids(self, parent: str, contents: list[bytes]) -> list[str]:
        """Ids that a second run of the same task makes again, so that it does not double what it enqueues.

        The content counts too: a run that goes another way than the one before it must not lose its own children to
        those that still wait from then.
        """
        with _COUNTING:
            return [self._child_id(parent, turn, content) for turn, content in enumerate(contents, 1)]

    def _child_id(self, parent: str, turn: int, content: bytes) -> str:
        """Sorts beside its parent's, and among those of one call, which are due at the same time, by its turn."""
        if self._alike is None:
            number = turn = self.enqueued = self.enqueued + 1
        else:
            key = hashlib.blake2b(content, digest_size=12).digest()
            self._alike[key] += 1
            number = self._alike[key]
        digest = hashlib.blake2b(f"{parent}/{number}/".encode() + content, digest_size=6).hexdigest()
        return f"{parent[:13]}{turn:04x}{digest}"


RUNNING = Running()
_HERE: ContextVar[Running] = ContextVar("qslots.running", default=RUNNING)


def here() -> Running:
    """What runs where this is asked: in a coroutine of a pack its own task, else the one task of this process."""
    return _HERE.get()


def enter(running: Running) -> None:
    """In this context, and all that are copied from it, this is what runs."""
    _HERE.set(running)
