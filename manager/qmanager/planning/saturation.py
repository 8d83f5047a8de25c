"""Whether more slots have made a queue's tasks finish faster; where they have not, growth stops. Pure.

What is behind the tasks (a storage, another service) may be the limit: then each slot more makes every task slower,
which looks like more work. So a growth is judged: busy slots and finished tasks a second, before and after. Only
while a backlog waits, for only then could more slots finish more; by slots that were busy, not by those granted, so
that slots still to be forked, a rate or a gate fool nobody; and only beyond what chance explains.

Then fewer are tried, half as many each time, as long as they finish as much: a queue behind a sick storage is not to
make others short. It lets go when the backlog is gone, when the same slots finish more, when fewer finish less, and
tries more again now and then, more and more seldom; what is not granted then is no longer asked for. A rate that fell
says that tasks or storage have changed: what comes next is judged afresh.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from qslots.units import figure

GREW = 1.4  # times as many slots are a growth that is judged
USEFUL = 0.5  # of what more slots should finish more: a growth that gave less was in vain
CHANGED = 0.7  # of the rate before: with less and more slots the tasks are no longer the same
SPARE = 1.5  # times the slots that do as much: where growth stops, so that a recovery shows in the same slots
CLEAR = 0.15  # most noise of two rates by which fewer slots are judged
ENOUGH = 20  # finished tasks by which a rate is believed
RECENT = 60.0  # seconds of the past that count as "before"
SETTLED = 10.0  # seconds, and two run times, until a growth is judged
PATIENCE = 6  # times as long it may remain unclear
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 300.0  # seconds until more slots are tried again, doubled each time
TRIED = 1.5  # times as many slots are tried
TRIAL = 30.0  # seconds for which they are asked for, if they do not come
DOUBLED = 30.0  # seconds for a doubling while nobody knows whether it helps and tasks take longer than before
DOUBLINGS = 40  # more than any cluster has slots
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

    @property
    def tells(self) -> bool:
        """Whether anything follows from it: tasks may have been killed of which no time is known."""
        return self.finished > 0 and self.slots > 0


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
    known: int = 0  # the ceiling while fewer are tried; 0: they are not
    lowest: int = 0  # so few finish less

    def limit(self, now: float) -> float:
        """The most slots that make sense, as far as is known."""
        if not self.ceiling:
            return math.inf
        if self.judging and self.top > self.ceiling:
            return max(self.ceiling, math.ceil(TRIED / GREW * self.top))
        more = now >= self.retry and not self.known and not self.judging
        return max(self.ceiling, math.ceil(TRIED * self.top)) if more else self.ceiling

    def doubling(self, now: float) -> float:
        """The most slots while tasks take longer than before a growth that is not judged yet."""
        return math.ldexp(self.top, 1 + min(DOUBLINGS, int((now - self.begun) / DOUBLED)))

    def reason(self, now: float) -> str:
        """Why there are no more than the ceiling."""
        if self.proof is None:
            return ""
        before, after = self.proof
        if self.known:
            then = f"{self.ceiling} to see whether they do as much"
        elif now < self.retry:
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
        since = (before.begun + now) / 2 if before.ceiling else 0.0  # what began in a crowd lasts beyond it
        return _grown(before, now, slots, work(max(since, now - RECENT)))
    if not before.judging and slots * GREW < before.top:
        return replace(before, top=slots, begun=now)
    if not before.judging:
        return _stopped(before, now, slots=slots, run=run, work=work) if before.ceiling else before
    if now - before.begun < settled:
        return before
    done = work(max(before.begun + run, now - max(RECENT, settled)))
    return _judged(before, done, now, slots=slots, patient=now - before.begun < PATIENCE * settled)


def _grown(before: Growth, now: float, slots: int, done: Work) -> Growth:
    """Slots have become more: what was done until now is what they are compared with."""
    base = done if done.finished >= ENOUGH and done.tells else before.base
    return replace(before, top=slots, begun=now, base=base, judging=base is not None)


def _judged(before: Growth, done: Work, now: float, *, slots: int, patient: bool) -> Growth:
    if not done.tells:
        return before
    base, afresh = before.base or done, Growth(top=slots, begun=now)
    unclear = (
        _paused(replace(before, top=slots, begun=now, base=done, judging=False), now) if before.ceiling else afresh
    )
    growth, gain, noise = done.slots / base.slots, done.rate / base.rate, _noise(base, done)
    if growth < GREW or done.finished < ENOUGH:
        return before if patient else unclear
    if before.ceiling and _quicker(base, done):
        return _recovered(before, done, now, slots)
    if slots <= before.ceiling:  # as many again as there were: that says nothing of more
        return replace(before, base=done, judging=False)
    if gain * (1 + noise) < CHANGED:
        return replace(afresh, base=done, judging=True)
    useful = USEFUL * (growth - 1)
    if gain * (1 + noise) - 1 < useful:
        ceiling = before.ceiling or max(1, min(slots, math.ceil(SPARE * base.slots * gain * (1 + noise))))
        stopped = replace(before, top=slots, begun=now, base=done, judging=False, ceiling=ceiling, proof=(base, done))
        return _paused(stopped, now)
    if before.ceiling and gain * (1 - noise) - 1 < useful / 2:  # chance alone does not undo what was found
        return before if patient else unclear
    return before if gain - 1 < useful and patient else afresh


def _paused(growth: Growth, now: float) -> Growth:
    """More slots are tried later, and each time after twice as long."""
    pause = min(LONGEST_PAUSE, 2 * growth.pause) if growth.pause else FIRST_PAUSE
    return replace(growth, pause=pause, retry=now + pause)


def _stopped(before: Growth, now: float, *, slots: int, run: float, work: Callable[[float], Work]) -> Growth:
    """Growth has stopped: whether slots matter again, whether fewer would do, and no asking for what is not granted."""
    if not before.known and now >= before.retry + TRIAL:
        before = _paused(before, now)
    settled = max(SETTLED, 2.0 * run)
    since = before.begun + settled + run  # as above
    if now < before.begun + 2 * settled:
        return before
    done = work(since if before.known else max(since, now - max(RECENT, settled)))
    if not done.tells:
        return before
    if before.base is None:
        return replace(before, base=done)
    if _quicker(before.base, done):
        return _recovered(before, done, now, slots)
    if before.known:
        return _compared(before, before.base, done, now, patient=now - before.begun < PATIENCE * settled)
    if _slower(before.base, done):
        return Growth(top=slots, begun=now)
    fewer = math.ceil(before.ceiling / 2)
    if before.lowest < fewer < before.ceiling and now < before.retry and _noise(done, done) < CLEAR:
        return replace(before, base=done, ceiling=fewer, known=before.ceiling)
    return before


def _recovered(before: Growth, done: Work, now: float, slots: int) -> Growth:
    """Tasks are quick again: more slots are tried as soon as it shows by how much."""
    settled = max(SETTLED, 2.0 * min(done.time, LONGEST_RUN))
    return Growth(slots, now, ceiling=before.known or before.ceiling, retry=now + 2 * settled, proof=before.proof)


def _compared(growth: Growth, base: Work, done: Work, now: float, *, patient: bool) -> Growth:
    """Half as many slots stay if they finish as much as all did."""
    noise, retry = _noise(base, done), now + growth.pause
    if done.slots > growth.ceiling + 1 or noise > CLEAR:  # they are kept as nobody else needs them, or it is not clear
        return growth if patient else replace(growth, ceiling=growth.known, known=0, retry=now)
    if done.rate >= base.rate * (1 - noise):
        return replace(growth, known=0, retry=retry)
    return replace(growth, ceiling=growth.known, known=0, lowest=growth.ceiling, retry=retry)


def _quicker(base: Work, done: Work) -> bool:
    """Whether as many slots finish more than they did."""
    growth, gain, noise = done.slots / base.slots, done.rate / base.rate, _noise(base, done)
    return gain * (1 - noise) > max(1.0, growth) * (1 + USEFUL / 2)


def _slower(base: Work, done: Work) -> bool:
    """Whether fewer slots finish less, so that slots matter."""
    growth, gain, noise = done.slots / base.slots, done.rate / base.rate, _noise(base, done)
    return growth * GREW < 1 and gain * (1 + noise) < 1 - USEFUL * (1 - growth)


def _noise(one: Work, other: Work) -> float:
    """Two standard deviations of the ratio of two rates, if tasks end as by chance."""
    return 2.0 * math.sqrt(1 / one.finished + 1 / other.finished)
