"""Whether more slots have made a queue's tasks finish faster; where they have not, growth stops. Pure.

What is behind the tasks (a storage, another service) may be the limit: then each slot more makes every task slower,
which looks like more work. So a growth is judged: busy slots and finished tasks a second, before and after. Only
while a backlog waits, for only then could more slots finish more; by slots that were busy, not by those granted, so
that slots still to be forked, a rate or a gate fool nobody; and only beyond what chance explains.

It lets go when the backlog is gone, when the same slots finish more, when fewer finish less, and tries again now and
then, more and more seldom. A rate that fell says that tasks or storage have changed: what comes next is judged afresh.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from qslots.units import figure

GREW = 1.4  # times as many slots are a growth that is judged
USEFUL = 0.5  # of what more slots should finish more: a growth that gave less was in vain
CHANGED = 0.7  # of the rate before: with less and more slots the tasks are no longer the same
ENOUGH = 20  # finished tasks by which a rate is believed
RECENT = 60.0  # seconds of the past that count as "before"
SETTLED = 10.0  # seconds, and two run times, until a growth is judged
PATIENCE = 6  # times as long it may remain unclear
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0  # seconds until more slots are tried again, doubled each time
TRIED = 1.5  # times as many slots are tried
DOUBLED = 30.0  # seconds for a doubling while nobody knows whether it helps and tasks take longer than before
LONGEST_RUN = 3600.0


@dataclass(frozen=True, slots=True)
class Work:
    """What was done over a stretch of time."""

    slots: float  # busy ones, on average
    rate: float  # tasks finished a second
    finished: int

    @property
    def time(self) -> float:
        """Slot seconds a task."""
        return self.slots / self.rate


@dataclass(frozen=True, slots=True)
class Growth:
    """What must be remembered of one queue."""

    top: int = 0  # slots that there are since ``begun``, or to which it grew then
    begun: float = 0.0
    base: Work | None = None  # before that growth, or where it was stopped
    judging: bool = False  # it has grown, and nobody knows yet whether that helps
    ceiling: int = 0  # slots where growth stopped; 0: it goes on
    pause: float = 0.0
    retry: float = 0.0  # when more are tried again
    proof: tuple[Work, Work] | None = None  # before and after the growth that was in vain

    def limit(self, now: float) -> float:
        """The most slots that make sense, as far as is known."""
        if not self.ceiling:
            return math.inf
        if self.judging:
            return max(self.ceiling, math.ceil(TRIED / GREW * self.top))
        return self.ceiling if now < self.retry else max(self.ceiling, math.ceil(TRIED * self.top))

    def doubling(self, now: float) -> float:
        """The most slots while tasks take longer than before a growth that is not judged yet."""
        return math.ldexp(self.top, 1 + int((now - self.begun) / DOUBLED))

    def reason(self, now: float) -> str:
        """Why there are no more than the ceiling."""
        if self.proof is None:
            return ""
        before, after = self.proof
        if now < self.retry:
            then = f"no more than {self.ceiling} for {math.ceil(self.retry - now)} s"
        else:
            then = f"{self.limit(now):.0f} to see whether it still is"
        return (
            f"more slots did not finish more ({figure(before.slots)} busy ones {figure(before.rate)}/s, "
            f"{figure(after.slots)} {figure(after.rate)}/s), so the limit is behind the tasks: {then}"
        )


CALM = Growth()


def watch(
    before: Growth, now: float, *, slots: int, mean: float, backlogged: bool, work: Callable[[float], Work]
) -> Growth:  # fmt: skip
    """The next state. ``slots`` listen; ``mean``: seconds a task; ``work``: what was done since an instant."""
    if not backlogged or not slots:
        return before if before.top == slots and before.base is None else Growth(top=slots, begun=now)
    run = min(mean, LONGEST_RUN)
    settled = max(SETTLED, 2.0 * run)
    if not before.judging and slots > GREW * before.top:
        return _grown(before, now, slots, work(max(before.begun, now - RECENT) if before.ceiling else now - RECENT))
    if not before.judging and slots * GREW < before.top:
        return replace(before, top=slots, begun=now)
    whole = settled if before.judging else 2 * settled  # what began in a crowd lasts beyond it
    if before.base is None or now - before.begun < whole:
        return before
    done = work(max(before.begun + whole - settled + run, now - max(RECENT, settled)))
    if not done.finished:
        return before
    if before.judging:
        return _judged(before, done, now, slots=slots, patient=now - before.begun < PATIENCE * settled)
    return Growth(top=slots, begun=now) if _moves_again(before.base, done) else before


def _grown(before: Growth, now: float, slots: int, done: Work) -> Growth:
    """Slots have become more: what was done until now is what they are compared with."""
    base = done if done.finished >= ENOUGH and done.slots > 0 else before.base
    return replace(before, top=slots, begun=now, base=base, judging=base is not None)


def _judged(before: Growth, done: Work, now: float, *, slots: int, patient: bool) -> Growth:
    base, afresh = before.base or done, Growth(top=slots, begun=now)
    growth, gain, noise = done.slots / base.slots, done.rate / base.rate, _noise(base, done)
    if growth < GREW or done.finished < ENOUGH:
        return before if patient else afresh
    if gain * (1 + noise) < CHANGED:
        return replace(afresh, base=done, judging=True)
    if gain * (1 + noise) - 1 < USEFUL * (growth - 1):
        pause = min(LONGEST_PAUSE, 2 * before.pause) if before.pause else FIRST_PAUSE
        ceiling = before.ceiling or max(1, min(slots, math.ceil(2 * base.slots * gain)))
        return Growth(slots, now, done, False, ceiling, pause, now + pause, (base, done))
    return before if gain - 1 < USEFUL * (growth - 1) and patient else afresh


def _moves_again(base: Work, done: Work) -> bool:
    """Whether slots matter again: as many finish more than they did, or fewer finish less."""
    growth, gain, noise = done.slots / base.slots, done.rate / base.rate, _noise(base, done)
    if gain * (1 - noise) > max(1.0, growth) * (1 + USEFUL / 2):
        return True
    return growth * GREW < 1 and gain * (1 + noise) < 1 - USEFUL * (1 - growth)


def _noise(one: Work, other: Work) -> float:
    """Two standard deviations of the ratio of two rates, if tasks end as by chance."""
    return 2.0 * math.sqrt(1 / one.finished + 1 / other.finished)
