"""A mold to be thrown away: ``qmaster check`` has it load the application, look at it, fork one slot, and end.

It loads just as a mold does, by the same code. What it found is left in a file in memory, so that whatever the
application has started or inherited cannot hold up its reader. It serves nothing and needs no queue server.
"""

from . import mold  # isort: skip - first: it switches the collector off before anything else is imported

import os
from typing import Any

import msgspec
from setproctitle import setproctitle

from qslots import logcontext, logs
from qslots.errors import Error
from qslots.handlers import REGISTRY, Handler
from qslots.options import QUEUE_OPTIONS, Options
from qslots.outcomes import Backoff
from qslots.reports import QueueDeclared
from qslots.settings import QueueSettings

from . import freshslot, late, linux, memory
from .molding import Begin, Ready, Refused

ORDER = 3  # descriptors that ``check`` gives us: files in memory
ANSWER = 4


class Option(msgspec.Struct, frozen=True):
    """One effective setting, and where it comes from: file:line, settings, or default."""

    value: Any
    source: str


class HandlerSeen(msgspec.Struct, frozen=True):
    """One handler."""

    name: str
    where: str
    takes: str  # task, pack
    is_async: bool
    settings: dict[str, Option]


class QueueSeen(msgspec.Struct, frozen=True):
    """One queue with the handlers that serve it."""

    name: str
    settings: dict[str, Option]
    handlers: list[HandlerSeen]


class Probed(msgspec.Struct, tag="probed"):
    """All that was found. Bytes."""

    ready: Ready
    queues: list[QueueSeen]
    late_imports: list[late.Late]
    slot: freshslot.FreshSlot
    available: int
    total: int


Answer = Probed | Refused


def probed(order: Begin) -> Probed:
    """Loads the application and looks at it. Error if it cannot be served."""
    ready = mold.prepared(order, promises=False)
    slot = freshslot.fork()
    available, total = memory.machine()
    queues = [seen(queue, order.settings.queues.get(queue.name)) for queue in ready.declared.queues]
    modules = [*order.settings.app, *(handler.function.__module__ for handler in REGISTRY.handlers.values())]
    late_imports = late.predicted(name.partition(".")[0] for name in modules)
    return Probed(ready, queues, late_imports, slot, available, total)


def seen(queue: QueueDeclared, override: QueueSettings | None) -> QueueSeen:
    """A queue with its effective settings."""
    options = {}
    for name in sorted(QUEUE_OPTIONS):
        by_settings = getattr(override, name, None) is not None
        source = "settings" if by_settings else REGISTRY.said_where(queue.name, name) or "default"
        options[name] = Option(told(getattr(queue, name)), source)
    return QueueSeen(queue.name, options, [handler(each) for each in REGISTRY.of_queue(queue.name)])


def handler(each: Handler) -> HandlerSeen:
    """A handler with its options."""
    usual = Options()
    options = {}
    for name in Options.__struct_fields__:
        value = getattr(each.options, name)
        options[name] = Option(told(value), "default" if value == getattr(usual, name) else each.where)
    return HandlerSeen(each.name, each.where, "pack" if each.arguments.takes_pack else "task", each.is_async, options)


def told(value: object) -> Any:
    """An option as it can be printed."""
    if isinstance(value, Backoff):
        return f"{value.first:g}s..{value.longest:g}s"
    if isinstance(value, tuple):
        return [told(each) for each in value]
    return getattr(value, "__qualname__", value)


def main() -> None:
    """The process that ``qmaster check`` spawns."""
    linux.die_with_parent()
    for descriptor in (ORDER, ANSWER):
        os.set_inheritable(descriptor, False)
    order = msgspec.msgpack.decode(os.pread(ORDER, os.fstat(ORDER).st_size, 0), type=Begin)
    if os.getppid() != order.master:
        return
    os.dup2(2, 1)  # what the application prints is none of the answer
    setproctitle("qmaster: check")
    logcontext.carry()
    logs.stand_back("check", order.settings.log_level)
    logs.print_by_lines()
    answer: Answer
    try:
        answer = probed(order)
    except Error as error:
        answer = Refused(str(error))
    with os.fdopen(ANSWER, "wb") as file:
        file.write(msgspec.msgpack.encode(answer))
    logs.flush()


if __name__ == "__main__":
    main()
    os._exit(0)
