"""The options of ``@task``: what each may be, and what it means as a number. HandlerError names the place.

Those of a queue are kept with the queue (reports.QueueDeclared), those of a handler here.
"""

import typing
from collections.abc import Callable, Mapping

import msgspec

from . import durability, functions, given, periodic
from .errors import HandlerError
from .outcomes import Backoff
from .reports import QueueDeclared
from .units import duration, rate, size, span

LARGEST_BATCH = 1000
SHORTEST_LOCK = 3.0  # seconds: it is extended once a second, and a quarter of it is kept to act in
SHORTEST_LIMIT = 0.001  # seconds; none at all is None


class Options(msgspec.Struct, frozen=True):
    """What belongs to one handler; times in seconds."""

    batch: int = 100
    time_limit: float | None = None
    max_failures: int = 5
    max_crashes: int = 3
    backoff: Backoff = Backoff()
    never_retry: tuple[type[BaseException], ...] = ()
    keep_result: float | None = None
    soft_time_limit: float | None = None
    alert_after: float | None = None
    on_alert: Callable[[str, float], object] | None = None
    concurrency: int | None = None  # of async handlers; None is the whole pack
    every: int | None = None
    cron: str | None = None
    tz: str = "UTC"
    catch_up: str = "once"
    overlap: bool = True


def _number(value: object, what: str, least: int, most: int | None = None) -> int:
    top = f" to {most}" if most is not None else " or more"
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise ValueError(f"{what} is {value!r}: write a whole number, {least}{top}")
    return value


def _seconds(value: typing.Any, what: str, least: float) -> float:
    seconds = duration(value, what)
    if seconds < least:
        raise ValueError(f"{what} is {value!r}: at least {least:g} s")
    return seconds


def queue_options(options: Mapping[str, typing.Any], where: str) -> dict[str, object]:
    """Checks and turns into numbers what belongs to a queue. HandlerError names the place."""
    checks: dict[str, Callable[[typing.Any, str], object]] = {
        "priority": lambda value, what: _number(value, what, 1, 100),
        "min_slots": lambda value, what: _number(value, what, 0),
        "max_slots": lambda value, what: None if value is None else _number(value, what, 0),
        "target_delay": duration,
        "lock": lambda value, what: _seconds(value, what, SHORTEST_LOCK),
        "memory": lambda value, what: None if value is None else size(value, what),
        "rate": lambda value, what: None if value is None else rate(value, what),
        "durability": lambda value, what: str(durability.parse(value, what)),
        "dedupe_window": duration,
        "max_size": size,
    }
    try:
        made = {name: checks[name](value, name) for name, value in options.items()}
        given.slots(made.get("min_slots"), made.get("max_slots"))
    except ValueError as error:
        raise HandlerError(f"{where}: {error}") from None
    return made


def handler_options(options: Mapping[str, typing.Any], where: str) -> Options:
    """Checks what belongs to a handler. HandlerError names the place."""
    checks: dict[str, Callable[[typing.Any, str], object]] = {
        "batch": lambda value, what: _number(value, what, 1, LARGEST_BATCH),
        "concurrency": lambda value, what: None if value is None else _number(value, what, 1, LARGEST_BATCH),
        "time_limit": lambda value, what: None if value is None else _seconds(value, what, SHORTEST_LIMIT),
        "soft_time_limit": lambda value, what: None if value is None else _seconds(value, what, SHORTEST_LIMIT),
        "alert_after": lambda value, what: None if value is None else _seconds(value, what, SHORTEST_LIMIT),
        "on_alert": _function,
        "max_failures": lambda value, what: _number(value, what, 1),
        "max_crashes": lambda value, what: _number(value, what, 1),
        "backoff": lambda value, what: Backoff(*span(value, what)),
        "never_retry": _exceptions,
        "keep_result": lambda value, what: None if value is None else _seconds(value, what, SHORTEST_LIMIT),
    } | periodic.CHECKS
    try:
        made = Options(**{name: checks[name](value, name) for name, value in options.items()})  # type: ignore[arg-type]
    except ValueError as error:
        raise HandlerError(f"{where}: {error}") from None
    soft, hard = made.soft_time_limit, made.time_limit
    if soft is not None and hard is not None and soft >= hard:
        raise HandlerError(
            f"{where}: soft_time_limit is {soft:g} s, time_limit {hard:g} s: the soft one must be shorter"
        )
    return made


QUEUE_OPTIONS = frozenset(QueueDeclared.__struct_fields__) - {"name", "handlers"}
HANDLER_OPTIONS = frozenset(Options.__struct_fields__)
_KNOWN = sorted({"name", "queue"} | QUEUE_OPTIONS | HANDLER_OPTIONS)
_ELSEWHERE = {  # what options of other systems are called here
    "timeout": "time_limit", "soft_timeout": "soft_time_limit", "retries": "max_failures",
    "max_retries": "max_failures", "retry_backoff": "backoff", "default_retry_delay": "backoff", "rate_limit": "rate",
    "crontab": "cron", "delay": "HANDLER.using(delay=…)", "countdown": "HANDLER.using(delay=…)",
    "eta": "HANDLER.using(at=…)", "bind": "qslots.current_task()",
}  # fmt: skip


def check_known(options: Mapping[str, object], where: str) -> None:
    """HandlerError if an option is none of ``@task``."""
    for name in options:
        if name not in _KNOWN:
            hint = given.meant(name, _KNOWN, _ELSEWHERE)
            raise HandlerError(f"{where}: @task does not know the option {name!r}: {hint}")


def _function(value: typing.Any, what: str) -> object:
    if value is not None:
        functions.check(value, what, "task_id", "seconds")
    return value


def _exceptions(value: typing.Any, what: str) -> tuple[type[BaseException], ...]:
    kinds = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ValueError(f"{what} is {value!r}: write exception classes, such as (KeyError,)")
    return kinds
