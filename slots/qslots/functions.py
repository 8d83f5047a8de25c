"""Functions that an application hands over to be called later: where they are written, and whether they can be. Pure.

What is wrong with one is said at import, where it is handed over, and never again: nothing here is called for a task.
"""

import inspect
from collections.abc import Callable

from .errors import UsageError


def place(function: Callable[..., object]) -> str:
    """file:line of a function, or what stands for it where it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def check(function: object, what: str, *parameters: str) -> None:
    """UsageError unless it is a plain function that can be called with a value for each of these, by position."""
    wanted = f"write a plain function ({', '.join(parameters)})"
    if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise UsageError(f"{what} is {function!r}: {wanted}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some that are written in C do not tell
    try:
        signature.bind(*parameters)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        raise UsageError(f"{what} is {name}{signature}: {error}; {wanted}") from None


def is_method(function: Callable[..., object]) -> bool:
    """Whether it stands in a class and wants an object of it, which nobody has where it is to be called."""
    if not inspect.isfunction(function):
        return False
    within, _, _ = function.__qualname__.rpartition(".")
    first = next(iter(inspect.signature(function).parameters), "")
    return bool(within) and not within.endswith("<locals>") and first in ("self", "cls")
