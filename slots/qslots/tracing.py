"""OpenTelemetry, where the application uses it: a span for each enqueueing and for each run of a handler.

The only module that knows it, and it never imports it: an application without it pays for one look-up a pack and a
put. Names and attributes are those of its semantic conventions for messaging. Its SDK has threads, so the application
starts it in each slot, after the fork.
"""

import contextlib
import functools
import sys
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from . import traces
from .handlers import Handler
from .outcomes import Postpone, Retry
from .running import here

_API, _CONTEXTS = "opentelemetry.trace", "opentelemetry.context"
_WISHES = (Retry, Postpone)  # ends of a run that are no error


def is_on() -> bool:
    """Whether the application uses OpenTelemetry. Merely imported it is by others too, redis-py among them."""
    otel = sys.modules.get(_API)
    if otel is None:
        return False
    if otel.get_current_span() is not otel.INVALID_SPAN:
        return True
    # To ask for the provider costs as much as all else of a put: not done where a look shows that there is none.
    is_set_up = getattr(otel, "_TRACER_PROVIDER", otel) is not None
    return is_set_up and not isinstance(otel.get_tracer_provider(), otel.ProxyTracerProvider)


@contextlib.contextmanager
def sending(queue: str, ids: Sequence[str], trace: bytes, *, many: bool) -> Iterator[bytes]:
    """A span around an enqueueing, in the trace given or the current one; yields its own trace, b"" if it has none."""
    otel = sys.modules[_API]
    with _span("send", otel.SpanKind.PRODUCER, queue, _counted(ids, many=many), context=_context(trace)) as span:
        yield _trace_of(span)


def handling(handler: Handler) -> Handler:
    """A handler each call of whose function is in a span: one for a task, or one for a whole pack."""
    function = handler.function
    run = _of_pack if handler.arguments.takes_pack else _of_task

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> object:
        try:
            with run(handler.queue, args):
                return function(*args, **kwargs)
        except BaseException as error:
            _leave_out_this_frame(error)
            raise

    @functools.wraps(function)
    async def traced_coroutine(*args: Any, **kwargs: Any) -> object:
        try:
            with run(handler.queue, args):
                return await cast(Awaitable[object], function(*args, **kwargs))
        except BaseException as error:
            _leave_out_this_frame(error)
            raise

    return msgspec.structs.replace(handler, function=traced_coroutine if handler.is_async else traced)


def _of_task(queue: str, _: Sequence[Any]) -> contextlib.AbstractContextManager[Any]:
    running, otel = here(), sys.modules[_API]
    attributes = {"messaging.message.id": running.parent or ""}
    return _span("process", otel.SpanKind.CONSUMER, queue, attributes, context=_context(running.trace()))


def _of_pack(queue: str, args: Sequence[Any]) -> contextlib.AbstractContextManager[Any]:
    """Its tasks may come from many traces: the span begins a trace of its own and is linked to them."""
    otel, (tasks,) = sys.modules[_API], args
    ids = [task.id for task in tasks]
    parents = [(task.id, traces.parse(task.traceparent, task.id)) for task in tasks if task.traceparent]
    links = [otel.Link(_remote(trace), {"messaging.message.id": task_id}) for task_id, trace in parents]
    return _span("process", otel.SpanKind.CONSUMER, queue, _counted(ids, many=True), links=links)


@contextlib.contextmanager
def _span(
    operation: str, kind: Any, queue: str, attributes: Mapping[str, str | int], *, context: Any = None,
    links: Sequence[Any] = (),
) -> Iterator[Any]:  # fmt: skip
    """The current span of a block; what the block raises is recorded, and an error unless the handler wished it so."""
    otel, contexts = sys.modules[_API], sys.modules[_CONTEXTS]
    common = {
        "messaging.system": "qslots", "messaging.operation.name": operation, "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }  # fmt: skip
    span = otel.get_tracer("qslots").start_span(
        f"{operation} {queue}", context, kind=kind, attributes={**common, **attributes}, links=links
    )
    before = contexts.attach(otel.set_span_in_context(span))
    try:
        yield span
    except BaseException as error:
        if not isinstance(error, _WISHES):
            span.record_exception(error)
            span.set_attribute("error.type", _kind_of(error))
            span.set_status(otel.Status(otel.StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        if not isinstance(sys.exception(), GeneratorExit):  # a coroutine thrown away: its context is gone with it
            contexts.detach(before)
        span.end()


def _counted(ids: Sequence[str], *, many: bool) -> dict[str, str | int]:
    """How many there are is said by calls for many only."""
    return {"messaging.batch.message_count": len(ids)} if many else {"messaging.message.id": ids[0]}


def _context(trace: bytes) -> Any:
    """The context of a trace; None, the current one, of none."""
    otel = sys.modules[_API]
    return otel.set_span_in_context(otel.NonRecordingSpan(_remote(trace))) if trace else None


def _remote(trace: bytes) -> Any:
    otel = sys.modules[_API]
    numbers = int.from_bytes(trace[:16], "big"), int.from_bytes(trace[16:24], "big")
    return otel.SpanContext(*numbers, is_remote=True, trace_flags=otel.TraceFlags(trace[24]))


def _trace_of(span: Any) -> bytes:
    found = span.get_span_context()
    if not found.is_valid:
        return b""
    trace, number, flags = int(found.trace_id), int(found.span_id), int(found.trace_flags)
    return trace.to_bytes(16, "big") + number.to_bytes(8, "big") + bytes([flags & 0xFF])


def _kind_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _leave_out_this_frame(error: BaseException) -> None:
    """What is told of an error shows the handler's own frames."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
