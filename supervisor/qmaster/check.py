"""``qmaster check``: what this application would be on this server, before it is deployed.

A throw-away mold (``probe``) loads it; what it found, what the queue servers answer and how many slots would fit make
one document. No code of the application runs in this process, and when it ends, however it ends, nothing that it has
started is left.
"""

import os
import signal
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from qslots import durability, given
from qslots.connection import without_password
from qslots.errors import Error, QueueServerDown
from qslots.reports import Declared
from qslots.servers import QueueServers
from qslots.settings import Settings
from qslots.units import share, size

from . import deaths, linux, molding
from .capacity import LEAST_SIZE, Policy, Readings, SlotReading, State, assess
from .findings import Severity
from .probe import Answer, Probed
from .spawn import spawn

PATIENCE = 3.0  # seconds for one answer of a queue server


def check(settings: Settings) -> dict[str, Any]:
    """The document. Error if the application cannot be served with these settings."""
    answer = probe(settings)
    if isinstance(answer, molding.Refused):
        raise Error(answer.why)
    servers = list(asked(settings, answer.ready.declared))
    document = {
        "app": list(settings.app),
        "queues": [_queue(settings, each) for each in msgspec.to_builtins(answer.queues)],
        "mold": answer.ready.document(),
        "slot": msgspec.to_builtins(answer.trial),
        "late_imports": [msgspec.structs.asdict(each) for each in answer.late_imports],
        "capacity": forecast(settings, answer),
        "queue_servers": servers,
    }
    return document | {"warnings": list(warnings(settings, answer))}


def probe(settings: Settings) -> Answer:
    """Has a throw-away mold load the application, waits for its end, and ends all that it has started."""
    begin = molding.Begin(
        settings.app, 0, settings.queue_servers, settings.queues, os.getpid(), settings.log_level
    )  # fmt: skip
    order, answer = os.memfd_create("order"), os.memfd_create("answer")
    os.write(order, msgspec.msgpack.encode(begin))
    linux.adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    pid = spawn("qmaster.probe", [order, answer])
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        os.kill(pid, signal.SIGKILL)  # it has ended, or we were told to
        linux.kill_strays(pid, set(), set())  # before its pid is free
        _, status = os.waitpid(pid, 0)
    found = os.pread(answer, os.fstat(answer).st_size, 0)
    if not found:
        raise Error(f"app {', '.join(settings.app)}: the mold {deaths.decode(status, '').text}")
    decoded: Answer = msgspec.msgpack.decode(found, type=Answer)
    return decoded


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


def forecast(settings: Settings, found: Probed) -> dict[str, Any]:
    """How many slots would fit now: at ``memory`` or private_limit each, at best, and by My World's formula."""
    declared = {queue.name: queue.memory for queue in found.ready.declared.queues if queue.memory is not None}
    limit, most = size(settings.server.private_limit), settings.server.max_slots
    policy = Policy(limit, share(settings.server.reserve_memory), None if most == "auto" else most, declared)
    cpus = len(os.sched_getaffinity(0))
    slot = SlotReading((), grown=True, size=found.trial.size, pss=found.trial.pss)
    readings = Readings(found.available, found.total, found.ready.pss, found.trial.mold_pss, cpus, 0.0, (slot,))
    capacity, _ = assess(readings, policy, State(), 0.0)
    sizes = [declared.get(queue.name, limit) for queue in found.ready.declared.queues]
    mean = max(LEAST_SIZE, sum(sizes) // len(sizes))
    top = policy.max_slots if policy.max_slots is not None else capacity.budget
    return {
        "available": found.available,
        "total": found.total,
        "budget": capacity.budget,
        "cpus": cpus,
        "slot_size": mean,
        "slots": min(top, max(capacity.budget // mean, 1 if capacity.budget else 0)),
        "slots_at_best": min(top, capacity.budget // max(LEAST_SIZE, found.trial.size)),
        "my_world_slots": capacity.my_world_slots,
        "max_slots": policy.max_slots,
    }


def warnings(settings: Settings, found: Probed) -> Iterator[str]:
    """What should be mended, though it can be served as it is; one line each."""
    yield from (str(each) for each in found.ready.findings if each.severity is Severity.MUST_FIX)
    yield from (str(each) for each in found.late_imports)
    known = [queue.name for queue in found.ready.declared.queues]
    for name in settings.queues:
        if name not in known:
            yield f"queues.{name} of the settings: no handler serves it; {given.meant(name, known)}"
    limit = size(settings.server.private_limit)
    if limit < 2 * found.trial.size:
        yield (
            f"server.private_limit is {limit >> 20} MB and a slot that has done nothing has "
            f"{found.trial.size / (1 << 20):.1f} MB: set it to twice that at least"
        )
