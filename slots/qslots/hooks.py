"""Functions of the application that mold and slots call: before the first fork, when a slot begins and ends, and
around its tasks.

    from qslots import hooks

    @hooks.after_fork
    def open_pool(slot: hooks.Slot) -> None: ...

They are registered when the application is imported. What ``warm_up`` raises refuses the generation, what
``after_fork`` raises ends the slot before it takes anything; what ``before_task`` raises, Retry and the like included,
is as if the handler had raised it. What the others raise is logged and changes nothing. Where no hook is registered
nothing is paid for it.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from . import functions
from .errors import Error, HandlerError, UsageError
from .forks import end_if_forked
from .outcomes import Outcome, spoken
from .records import Fate
from .tasks import Task, current_task

log = logging.getLogger("qslots.slot")
_F = TypeVar("_F", bound=Callable[..., object])
_WORDS = {"retry": "retry", "postpone": "postponed", "bury": "buried", "fail": "failed", "loss": "lost"}


class Slot(msgspec.Struct, frozen=True):
    """The slot that runs: a numbered place on a server, and the generation of the code in it."""

    server: str
    index: int
    generation: int


class Hooks:
    """What is registered, in its order."""

    def __init__(self) -> None:
        self.warm_up: list[Callable[[], object]] = []
        self.after_fork: list[Callable[[Slot], object]] = []
        self.before_task: list[Callable[[Task], object]] = []
        self.after_task: list[Callable[[Task, str], object]] = []
        self.on_failure: list[Callable[[Task, BaseException, str], object]] = []
        self.before_exit: list[Callable[[Slot], object]] = []

    def begin(self, task: Task) -> None:
        """A task is about to run; raises what a hook raises."""
        for hook in self.before_task:
            hook(task)

    def born(self, slot: Slot) -> None:
        """The slot is to begin. Error if a hook says that it cannot."""
        for hook in self.after_fork:
            try:
                hook(slot)
            except BaseException as error:
                end_if_forked()
                log.exception("hook after_fork: %s", name_of(hook))
                why = f"hook after_fork: {name_of(hook)} raised {type(error).__name__}: {spoken(error)}"
                raise Error(" ".join(why.split())) from None
            end_if_forked()


HOOKS = Hooks()


def warm_up(function: _F) -> _F:
    """Once, in the mold, when the application is imported and before slots are forked: ``function()``."""
    return _registered("warm_up", HOOKS.warm_up, function)


def after_fork(function: _F) -> _F:
    """In each slot, before its first pack: ``function(slot)``."""
    return _registered("after_fork", HOOKS.after_fork, function, "slot")


def before_task(function: _F) -> _F:
    """Before each task, its arguments being checked: ``function(task)``."""
    return _registered("before_task", HOOKS.before_task, function, "task")


def after_task(function: _F) -> _F:
    """After each task, before it is settled: ``function(task, outcome)``."""
    return _registered("after_task", HOOKS.after_task, function, "task", "outcome")


def on_failure(function: _F) -> _F:
    """When a task has failed or is to be buried: ``function(task, error, outcome)``."""
    return _registered("on_failure", HOOKS.on_failure, function, "task", "error", "outcome")


def before_exit(function: _F) -> _F:
    """In each slot that ends by itself, as its last act: ``function(slot)``."""
    return _registered("before_exit", HOOKS.before_exit, function, "slot")


def _registered(name: str, hooks: list[Any], function: _F, *parameters: str) -> _F:
    try:
        functions.check(function, f"the hook {name}", *parameters)
    except UsageError as error:
        raise HandlerError(f"{functions.place(function)}: {error}") from None
    hooks.append(function)
    return function


def told(hooks: Iterable[Callable[..., object]], *facts: object) -> None:
    """Calls hooks that can change nothing."""
    for hook in hooks:
        try:
            hook(*facts)
        except BaseException:
            end_if_forked()
            log.exception("the hook %s raised; nothing is changed by it", name_of(hook))
        end_if_forked()


def word(outcome: Outcome | None, fate: Fate) -> str:
    """How a task has ended, for hooks: done, retry, postponed, failed, buried, or lost (nobody knows whose fault)."""
    if outcome is None:
        return "done"
    if outcome.kind == "fail" and fate.failures + 1 >= outcome.limit:
        return "buried"
    return _WORDS.get(outcome.kind, outcome.kind)


def hooked(function: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """A handler's function with what is called before it; for handlers of single tasks."""

    def after_hooks(*args: Any, **kwargs: Any) -> Any:
        HOOKS.begin(_running())
        return function(*args, **kwargs)

    async def after_hooks_async(*args: Any, **kwargs: Any) -> Any:
        HOOKS.begin(_running())
        return await function(*args, **kwargs)

    return after_hooks_async if is_async else after_hooks


def _running() -> Task:
    task = current_task()
    assert task is not None
    return task


def name_of(hook: Callable[..., object]) -> str:
    """How a hook is called in messages."""
    return getattr(hook, "__qualname__", repr(hook))
