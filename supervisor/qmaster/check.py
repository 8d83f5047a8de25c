"""``qmaster check``: what this application would be on this server, before it is deployed.

A throw-away mold (``probe``) loads it; what it found, what the queue servers answer and how many slots would fit make
one document. No code of the application runs in this process, and when it ends, however it ends, nothing that it has
started is left.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from qslots import durability, given
from qslots.connection import without_password
from qslots.errors import Error, QueueServerDown
from qslots.reports import Declared
from qslots.servers import QueueServers
from qslots.settings import Settings
from qslots.units import portion, share, size

from . import deaths, forecast, linux, molding
from .findings import Severity
from .probe import Answer, Probed
from .recycling import too_low
from .spawn import spawn

PATIENCE = 3.0  # seconds for one answer of a queue server


def check(settings: Settings) -> dict[str, Any]:
    """The document. Error if the application cannot be served with these settings."""
    answer = probe(settings)
    if isinstance(answer, molding.Refused):
        raise Error(answer.why)
    why = too_low(size(settings.server.private_limit), answer.slot.size)
    if why:
        raise Error(why)
    servers = list(asked(settings, answer.ready.declared))
    document = {
        "app": list(settings.app),
        "queues": [_queue(settings, each) for each in msgspec.to_builtins(answer.queues)],
        "mold": answer.ready.document(),
        "slot": msgspec.to_builtins(answer.slot),
        "late_imports": [msgspec.structs.asdict(each) for each in answer.late_imports],
        "capacity": fitting(settings, answer),
        "queue_servers": servers,
    }
    return document | {"warnings": list(warnings(settings, answer))}


def probe(settings: Settings) -> Answer:
    """Has a throw-away mold load the application, waits for its end, and ends all that it has started."""
    begin = molding.Begin(0, settings, os.getpid())
    order, answer = os.memfd_create("order"), os.memfd_create("answer")
    os.write(order, msgspec.msgpack.encode(begin))
    linux.adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        pid = spawn("qmaster.probe", [order, answer])
    except OSError as error:
        raise Error(f"{sys.executable} cannot be started as this user: {error.strerror}") from None
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        os.kill(pid, signal.SIGKILL)  # it has ended, or we were told to
        linux.kill(linux.strays(pid, set(), set()))  # before its pid is free
        _, status = os.waitpid(pid, 0)
        _end_strays(pid)
    found = os.pread(answer, os.fstat(answer).st_size, 0)
    if not found:
        raise Error(f"app {', '.join(settings.app)}: the mold {deaths.decode(status).text}")
    decoded: Answer = msgspec.msgpack.decode(found, type=Answer)
    return decoded


def _end_strays(pid: int) -> None:
    """What those had started whom we have killed is our child now, and so on."""
    with contextlib.suppress(ChildProcessError):  # there is none any more
        while True:
            linux.kill(linux.strays(pid, set(), set()))
            os.wait()


def _leave(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _queue(settings: Settings, seen: dict[str, Any]) -> dict[str, Any]:
    places = settings.places.get(seen["name"], tuple(settings.queue_servers)[:1])
    return seen | {"queue_servers": list(places)}


def asked(settings: Settings, declared: Declared) -> Iterator[dict[str, Any]]:
    """What each queue server answers. Error if one that answers cannot keep what is asked of it."""
    if not settings.queue_servers:
        return
    servers = QueueServers.listed(settings, name="check", timeout=PATIENCE, single=True)
    for name, url in settings.queue_servers.items():
        document = {"name": name, "url": without_password(url), "checked": True, "why": ""}
        try:
            servers[name].check()
            for queue in declared.queues:
                if name in servers.places(queue.name):
                    servers[name].promise(queue.name, durability.parse(queue.durability))
        except QueueServerDown as error:
            document |= {"checked": False, "why": str(error)}
        yield document
    servers.close()


def fitting(settings: Settings, found: Probed) -> dict[str, Any]:
    """How many slots would fit now, with what that was worked out from."""
    most, queues = settings.server.max_slots, found.ready.declared.queues
    limit, allowed = size(settings.server.private_limit), None if most == "auto" else most
    told = forecast.Told(
        available=found.available,
        reserve=portion(share(settings.server.reserve_memory), found.total),
        mold=found.ready.pss,
        fresh=found.slot.size,
        pss=found.slot.pss + found.slot.mold_pss,
        sizes=[queue.memory if queue.memory is not None else limit for queue in queues],
        max_slots=allowed,
    )
    figures = msgspec.structs.asdict(forecast.slots(told))
    cpus = len(os.sched_getaffinity(0))
    return {"available": found.available, "total": found.total, "cpus": cpus, "max_slots": allowed, **figures}


def warnings(settings: Settings, found: Probed) -> Iterator[str]:
    """What should be mended, though it can be served as it is; one line each."""
    yield from (str(each) for each in found.ready.findings if each.severity is Severity.MUST_FIX)
    yield from (str(each) for each in found.late_imports)
    known = [queue.name for queue in found.ready.declared.queues]
    for name in settings.queues:
        if name not in known:
            yield f"queues.{name} of the settings: no handler serves it; {given.meant(name, known)}"
