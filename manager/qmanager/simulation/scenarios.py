"""The built-in loads. All are given in parts of the fleet's capacity, so that they fit any fleet and any duration."""

import math
from collections.abc import Callable
from dataclasses import replace

from qslots.reports import HandlerDeclared, QueueDeclared

from .load import Load, Loss, Phase, QueueLoad
from .server import Size

HOUR = 3600.0
STEPS = 48  # of a wave


def steady(size: Size, duration: float) -> Load:
    """The same load all the time: 85 % of all slots are busy."""
    return Load("steady", _everyday(size.capacity * 0.85), duration)


def tenfold(size: Size, duration: float) -> Load:
    """The urgent load rises tenfold for the middle third."""
    urgent = _queue("urgent", size.capacity * 0.04, 0.5, priority=90, target_delay=1.0)
    (first,) = urgent.phases
    more = replace(first, at=duration / 3, arrivals=first.arrivals * 10)
    after = replace(first, at=duration * 2 / 3)
    others = _everyday(size.capacity * 0.6)[1:]
    return Load("tenfold", (replace(urgent, phases=(first, more, after)), *others), duration)


def night(size: Size, duration: float) -> Load:
    """A batch of half of all slot time comes at once, beside the everyday load."""
    spell, seconds = 10.0, 8.0
    tasks = size.capacity * duration * 0.5 / seconds
    declared = QueueDeclared("batch", priority=10, target_delay=1800.0, handlers=(HandlerDeclared("batch"),))
    burst = Phase(duration / 6, tasks / spell, seconds)
    phases = (Phase(0.0, 0.0, seconds), burst, Phase(burst.at + spell, 0.0, seconds))
    return Load("night", (*_everyday(size.capacity * 0.4), QueueLoad(declared, phases)), duration)


def sick(size: Size, duration: float) -> Load:
    """The storage behind one queue is sick for the middle third: its tasks take twenty times as long, and more slots
    do not help.
    """
    likes = _queue("likes", size.capacity * 0.08, 0.4, priority=60, target_delay=5.0)
    (well,) = likes.phases
    well = replace(well, parallel=max(2.0, size.capacity * 0.16))
    ill, again = replace(well, at=duration / 3, slowdown=20.0), replace(well, at=duration * 2 / 3)
    return Load("sick", (*_everyday(size.capacity * 0.65), replace(likes, phases=(well, ill, again))), duration)


def losses(size: Size, duration: float) -> Load:
    """A fifth of the servers is lost at once, later one more; at the end all come back."""
    fifth = max(1, round(size.servers / 5)) if size.servers > 1 else 0
    back = duration * 3 / 4
    last = 1 if size.servers > 2 else 0
    lost = (Loss(duration / 4, fifth, back), Loss(duration / 2, last, back))
    return Load("losses", _everyday(size.capacity * 0.7), duration, lost)


def wave(size: Size, duration: float) -> Load:
    """A day, in the time of the run: what people cause rises and falls by a factor of nine, the rest does not."""
    queues = []
    for queue in _everyday(size.capacity * 0.65):
        waves = queue.name in ("urgent", "mail")
        queues.append(replace(queue, phases=_waving(queue.phases[0], duration)) if waves else queue)
    return Load("wave", tuple(queues), duration)


def _waving(mean: Phase, duration: float) -> tuple[Phase, ...]:
    parts = [(step / STEPS, 1 - 0.8 * math.cos(2 * math.pi * (step + 0.5) / STEPS)) for step in range(STEPS)]
    return tuple(replace(mean, at=part * duration, arrivals=mean.arrivals * factor) for part, factor in parts)


def _everyday(busy: float) -> tuple[QueueLoad, ...]:
    """Queues of all kinds that keep about so many slots busy; the last three are too quiet for a slot of their own."""
    return (
        _queue("urgent", busy * 0.15, 0.5, priority=90, target_delay=1.0),
        _queue("mail", busy * 0.35, 2.0, priority=50, target_delay=10.0),
        _queue("photos", busy * 0.45, 10.0, priority=30, target_delay=60.0),
        _queue("index", busy * 0.05, 0.5, priority=20, target_delay=60.0, batch=20),
        _queue("sms", 0.1, 0.1, priority=80, target_delay=2.0),
        _queue("invoice", 0.05, 0.3, priority=40, target_delay=10.0),
        _queue("cleanup", 0.2, 1.0, priority=10, target_delay=300.0),
    )


def _queue(
    name: str, busy: float, service_time: float, *, priority: int, target_delay: float, batch: int = 1
) -> QueueLoad:
    """A queue that keeps so many slots busy."""
    declared = QueueDeclared(
        name, priority=priority, target_delay=target_delay, handlers=(HandlerDeclared(name, batch),)
    )
    return QueueLoad(declared, (Phase(0.0, busy / service_time, service_time),))


SCENARIOS: dict[str, Callable[[Size, float], Load]] = {
    scenario.__name__: scenario for scenario in (steady, tenfold, night, sick, losses, wave)
}
