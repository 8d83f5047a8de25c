"""OpenTelemetry, where the application has imported it: a span for each enqueueing and for each run of a handler.

The only module that knows it, and it never imports it: an application without it pays for one look-up a pack and a
put. Names and attributes are those of its semantic conventions for messaging. Its SDK has threads, so the application
starts it in each slot, after the fork.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from . import traces
from .handlers import Handler
from .outcomes import Postpone, Retry
from .running import RUNNING
from .tasks import Task

_API = "opentelemetry.trace"
_WISHES = (Retry, Postpone)  # ends of a run that are no error


def is_on() -> bool:
    """Whether the application has imported OpenTelemetry."""
    return _API in sys.modules


@contextlib.contextmanager
def sending(queue: str, ids: Sequence[str], trace: bytes, *, many: bool) -> Iterator[bytes]:
    """A span around an enqueueing, in the trace given or the current one; yields its own trace, b"" if it has none."""
    with _span(queue, "send", "PRODUCER", _counted(ids, many=many), parent=trace) as span:
        yield _trace_of(span)


def handling(handler: Handler) -> Callable[..., object]:
    """The function of a handler, each call of it in a span: one for a task, or one for a whole pack."""
    function = handler.function
    run = _of_pack if handler.arguments.takes_pack else _of_task

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> object:
        try:
            with run(handler.queue, args):
                return function(*args, **kwargs)
        except BaseException as error:
            raise _without_this_frame(error)

    @functools.wraps(function)
    async def traced_coroutine(*args: Any, **kwargs: Any) -> object:
        try:
            with run(handler.queue, args):
                return await function(*args, **kwargs)  # type: ignore[misc]
        except BaseException as error:
            raise _without_this_frame(error)

    return traced_coroutine if inspect.iscoroutinefunction(function) else traced
