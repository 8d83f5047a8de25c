"""What a test expects to be enqueued: a handler, arguments, and what ``using`` says. Pure.

Only what is given is compared: no arguments fit any, ``size=64`` fits whatever else was given. Values are compared as
they are stored, so a tuple is a list, and a dataclass what it is made of.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import ArgumentsError, UsageError
from ..handlers import Handler, encoded
from ..queries import TaskInfo
from ..tasks import TaskFunction, Using
from .look import span, written

_EXACT = 0.001  # seconds
_MEANWHILE = 1.0  # seconds that may have passed since


class Wanted:
    """One expectation. ArgumentsError: its handler has no such argument."""

    def __init__(
        self, of: TaskFunction[..., Any] | Using[...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if not isinstance(of, (TaskFunction, Using)):
            raise UsageError(
                f"{of!r} is not enqueued: give a handler, such as send_mail or send_mail.using(delay='10m')"
            )
        using = of if isinstance(of, Using) else of.using()
        self.handler = using._handler
        self._id, self._collection, self._when = using._id, using._collection, using._when
        self._call = written(self.handler.name, args, kwargs)
        try:
            self._given = _named(self.handler, args, kwargs)
        except TypeError as error:
            raise self.handler.misfit(ArgumentsError(str(error))) from None

    def fits(self, task: TaskInfo, now: float) -> bool:
        """Whether this task is meant."""
        if task.handler != self.handler.name or self._id not in (None, task.id):
            return False
        if self._collection not in ("", task.collection) or not self._is_due(task, now):
            return False
        there = _named(self.handler, task.args, task.kwargs)
        return all(name in there and _stored(there[name]) == _stored(value) for name, value in self._given.items())

    def _is_due(self, task: TaskInfo, now: float) -> bool:
        seconds, due = float(self._when or 0) / 1e6, task.due_at or 0.0
        if not self._when.startswith("+"):
            return not self._when or abs(due - seconds) < _EXACT
        return abs(due - (task.put_at or 0.0) - seconds) < _EXACT or abs(due - now - seconds) < _MEANWHILE

    def __str__(self) -> str:
        words = [self._call]
        if self._id is not None:
            words.append(f"with id {self._id}")
        if self._collection:
            words.append(f"of collection {self._collection}")
        if self._when.startswith("+"):
            words.append(f"due in {span(float(self._when) / 1e6)}")
        elif self._when:
            words.append(f"due at {float(self._when) / 1e6:.3f}")
        return " ".join(words)


def _named(handler: Handler, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    """Arguments by name; those of a pack handler's task by their place too."""
    if handler.arguments.takes_pack:
        return {**dict(enumerate(args)), **kwargs}
    return inspect.signature(handler.function).bind_partial(*args, **kwargs).arguments


def _stored(value: object) -> object:
    return msgspec.msgpack.decode(encoded(value))
