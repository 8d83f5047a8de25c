"""The fork-safety audit: what a mold looks for when the application is imported, before its heap is frozen.

Puts right what can safely be put right and tells of the rest; what it cannot look at is a finding too, never an end of
the mold. Whether slots may be forked is said by ``findings.refusal``. It must run before ``gc.freeze``: until then no
page is shared, so that looking at every object costs nothing but its time (some 30 ms for 500,000).
"""

import atexit
import gc
import logging
import os
import random
import sys
import sysconfig
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qslots import functions
from qslots.units import counted

from . import descriptors, heap, linux
from .findings import Finding, bounded, found, thread
from .pools import Open

_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_GRPC_SAFE = {"1", "true", "True", "TRUE"}


@dataclass(frozen=True, slots=True)
class Before:
    """What there was before the application was imported."""

    descriptors: dict[int, str]
    collections: int
    register: Callable[..., Any]  # that of atexit, which does not tell what it has been given
    exit_functions: list[Callable[..., object]]  # what it is given from now on


def before() -> Before:
    """To be called just before the first import of the application."""
    since = Before(descriptors.opened(), _collections(), atexit.register, [])

    def recorded(function: Callable[..., object], *args: object, **kwargs: object) -> object:
        since.exit_functions.append(function)
        return since.register(function, *args, **kwargs)

    atexit.register = recorded  # type: ignore[assignment]
    return since


def inspect(since: Before) -> tuple[Finding, ...]:
    """All that is found, the worst first. The collector is off afterwards."""
    atexit.register = since.register
    collector = _collector(since)  # first: it must not run while we look
    held = Open()
    looks: list[Callable[[], list[Finding]]] = [
        _threads, _children, held.django, held.engines, held.redis, held.connections, held.loops, _grpc(held),
        lambda: descriptors.left_open(since.descriptors, held.accounted), _globals, _log_queues,
        lambda: _exit_functions(since), _build,
    ]  # fmt: skip
    findings = collector
    for look in looks:
        try:
            findings += look()
        except Exception as error:  # code of others: it may raise anything
            what = getattr(look, "__name__", "open descriptors").strip("_")
            findings.append(found("not looked at", f"{what} cannot be looked at: {type(error).__name__}: {error}"))
    return bounded(findings)


def may_freeze() -> bool:
    """Whether ``gc.freeze`` is sound here: free-threaded builds before 3.13.1 miscount what is frozen."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 13, 1)


def _build() -> list[Finding]:
    return [] if may_freeze() else [found("free-threaded", "this free-threaded Python cannot freeze its heap")]


def _collections() -> int:
    return sum(each["collections"] for each in gc.get_stats())


def _collector(since: Before) -> list[Finding]:
    enabled, ran = gc.isenabled(), _collections() - since.collections
    gc.disable()
    if enabled:
        return [found("collector", f"the garbage collector was switched on, and ran {counted(ran, 'time')}")]
    return [found("collections", f"gc.collect was called {counted(ran, 'time')}")] if ran else []


def _threads() -> list[Finding]:
    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    names = linux.threads()
    own = names.pop(os.getpid())
    for each in others:
        names.pop(each.native_id or 0, None)
    native = ["without a name" if name == own else name for name in names.values()]  # it has that of the process then
    return [thread("thread", each.name, _place(getattr(each, "_target", None))) for each in others] + [
        thread("native thread", name) for name in native
    ]


def _children() -> list[Finding]:
    return [
        found("child process", f"process {pid} was started: {' '.join(command)}")
        for pid, command in linux.children().items()
        if "resource_tracker" not in " ".join(command)  # Python's own, for shared memory: one for all is right
    ]


def _grpc(held: Open) -> Callable[[], list[Finding]]:
    return list if os.environ.get("GRPC_ENABLE_FORK_SUPPORT") in _GRPC_SAFE else held.channels


def _globals() -> list[Finding]:
    """Locks that are held, and sources of random numbers that a fork would double."""
    sources = {each for each in (heap.known("random", "Random"), heap.known("numpy.random._generator", "Generator"),
                                 heap.known("numpy.random.mtrand", "RandomState")) if each is not None}  # fmt: skip
    numpy = sys.modules.get("numpy.random.mtrand")
    reseeded = {id(getattr(random, "_inst", None)), id(getattr(numpy, "_rand", None))}
    findings = {}
    for name, value in heap.module_globals():
        if type(value) in _LOCKS and repr(value).startswith("<locked"):
            findings[id(value)] = found("held lock", "a lock is held", name)
        elif type(value) in sources and id(value) not in reseeded:
            findings[id(value)] = found("random numbers", f"{type(value).__name__} made at import", name)
    return list(findings.values())


def _log_queues() -> list[Finding]:
    kind = heap.known("logging.handlers", "QueueHandler")
    kinds = heap.with_subclasses(kind) if kind is not None else set()
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        found("log queue", f"logger {each.name} writes to a queue", type(handler).__name__)
        for each in loggers
        if isinstance(each, logging.Logger)
        for handler in each.handlers
        if type(handler) in kinds
    ]


def _exit_functions(since: Before) -> list[Finding]:
    own = [each for each in since.exit_functions if _module(each).partition(".")[0] not in sys.stdlib_module_names]
    return [
        found("exit function", f"{_module(each)}.{getattr(each, '__qualname__', each)}()", _place(each)) for each in own
    ]


def _module(function: Callable[..., object]) -> str:
    return getattr(function, "__module__", None) or ""


def _place(function: object) -> str:
    """file:line; "" of one that is written in C."""
    return functions.place(function) if isinstance(function, types.FunctionType | types.MethodType) else ""
