"""What the fork-safety audit can find, and what is to be done about each: plain data, the same in log, status, check.

Pure. ``audit`` looks, this module knows the kinds; docs/fork-safety.md has each of them, held so by a test.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

MOST = 40  # findings in one report: the mold's message is one packet of at most 128 kB
LONGEST = 200  # characters of what and where


class Severity(StrEnum):
    """What a finding asks of whoever writes the application."""

    MUST_FIX = "must fix"
    CLOSED = "closed for you"
    KNOW = "know"


class Kind(msgspec.Struct, frozen=True):
    """One thing that a fork does not bear, or that one should know."""

    severity: Severity
    remedy: str


class Finding(msgspec.Struct, frozen=True):
    """One thing found: ``what`` it is, ``where`` it is kept, as far as that can be known."""

    kind: str
    severity: Severity
    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        """One line."""
        where = f" ({self.where})" if self.where else ""
        return f"{self.severity}: {self.what}{where}: {self.remedy}"


_FORK = "a hook after_fork"
KINDS = {
    "thread": Kind(Severity.MUST_FIX, f"start it in {_FORK}, or in a handler at first use"),
    "native thread": Kind(
        Severity.MUST_FIX, f"keep its library at one thread by its environment variable, or begin with it in {_FORK}"
    ),
    "child process": Kind(Severity.MUST_FIX, f"start it in {_FORK}, or in a handler: no slot can wait for it"),
    "connection": Kind(Severity.MUST_FIX, f"close it before the module ends, and open it in {_FORK}"),
    "socket": Kind(
        Severity.MUST_FIX, f"open it in {_FORK}: all slots would speak over this one and read each other's answers"
    ),
    "event loop": Kind(Severity.MUST_FIX, "close it; async handlers have a loop of their own in each slot"),
    "event descriptor": Kind(
        Severity.MUST_FIX, f"make it in {_FORK}: what one slot registers or reads there, the others miss"
    ),
    "gpu": Kind(Severity.MUST_FIX, f"touch the GPU first in {_FORK}: a context does not survive a fork"),
    "grpc": Kind(
        Severity.MUST_FIX, f"open channels in {_FORK}, or set GRPC_ENABLE_FORK_SUPPORT=true before qmaster is started"
    ),
    "held lock": Kind(Severity.MUST_FIX, "release it before the module ends: in a slot nobody is left to do it"),
    "engine": Kind(Severity.CLOSED, "slots open their own at first use"),
    "django": Kind(Severity.CLOSED, "slots open their own at first use"),
    "own connections": Kind(Severity.CLOSED, "slots open their own at first use"),
    "collector": Kind(
        Severity.CLOSED, "leave gc alone where modules are imported: what it frees leaves holes in shared pages"
    ),
    "collections": Kind(
        Severity.KNOW, "leave gc.collect out where modules are imported: what it frees leaves holes in shared pages"
    ),
    "redis": Kind(Severity.KNOW, "nothing: redis-py notices the fork and opens a new one"),
    "listening socket": Kind(Severity.KNOW, "all slots would accept from it; close it, or open it where it is served"),
    "datagram socket": Kind(Severity.KNOW, "sending over it is safe; answers would come to any slot"),
    "descriptor": Kind(Severity.KNOW, f"if slots are to use it by themselves, make it in {_FORK}"),
    "file": Kind(Severity.KNOW, f"all slots share its position: unless they only append, open it in {_FORK}"),
    "log queue": Kind(Severity.KNOW, f"start its QueueListener in {_FORK}: without one nobody reads it in a slot"),
    "random numbers": Kind(Severity.KNOW, f"seed it in {_FORK}: all slots would draw the same numbers"),
    "exit function": Kind(Severity.KNOW, "use hooks.before_exit: a slot ends without what atexit was given"),
    "free-threaded": Kind(Severity.KNOW, "use Python 3.13.1 or later, or one with a GIL: slots share less of the heap"),
    "not looked at": Kind(Severity.KNOW, "look at it yourself"),
}  # fmt: skip
REFUSED = ("thread", "native thread")  # a fork takes only the calling thread, and what others hold stays held
_HINTS = {  # beginnings of thread names -> what starts them
    "Otel": "set up the OpenTelemetry SDK in a hook after_fork",
    "sentry": "call sentry_sdk.init in a hook after_fork",
    "pymongo": "make the MongoClient in a hook after_fork",
    "APScheduler": "start no scheduler in slots: @task(cron=…) is run once in the cluster",
    "ddtrace": "start the tracer in a hook after_fork",
    "cuda": "touch the GPU first in a hook after_fork",
}


def found(kind: str, what: str, where: str = "") -> Finding:
    """A finding of one of the kinds."""
    known = KINDS[kind]
    return Finding(kind, known.severity, what[:LONGEST], where[:LONGEST], known.remedy)


def thread(kind: str, name: str, runs: str = "") -> Finding:
    """A thread; some are known by their name."""
    hint = next((hint for start, hint in _HINTS.items() if name.startswith(start)), KINDS[kind].remedy)
    finding = found(kind, f"{kind} {name}", runs)
    return msgspec.structs.replace(finding, remedy=hint)


def bounded(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, as many as one message takes; the last one says how many more there are."""
    order = list(Severity)
    ranked = sorted(findings, key=lambda each: order.index(each.severity))
    if len(ranked) <= MOST:
        return tuple(ranked)
    rest = found("not looked at", f"{len(ranked) - MOST + 1} more findings are left out")
    return (*ranked[: MOST - 1], rest)


def pressing(findings: Iterable[Finding]) -> list[Finding]:
    """Those that a log is to tell of: what must be fixed, and what was put right and will be again each time."""
    return [each for each in findings if each.severity is not Severity.KNOW]


def refusal(findings: Iterable[Finding]) -> str:
    """Why no slot may be forked, in one line; "" if there is no such reason."""
    threads = [each for each in findings if each.kind in REFUSED]
    if not threads:
        return ""
    named = ", ".join(
        f"{each.what.partition('thread ')[2]}{f' ({each.where})' if each.where else ''}" for each in threads
    )
    return (
        f"the application has started threads while it was imported ({named}): slots are forked from one thread; "
        f"{threads[0].remedy}"
    )  # fmt: skip
