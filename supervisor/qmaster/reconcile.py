"""What the master does next: a function of what is wanted, what is and what time it is. Pure.

Idempotent: called after every event, it says only what is still to be done. It never asks a busy slot to hurry because
the map shrank: a slot asked to leave finishes its task. Slots of an older generation are replaced a few at a time, and
only while those before them have come back to life: a generation that dies at birth stops its own spreading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .children import Child, Children, Phase
from .reasons import Reason

BIRTH_WITHIN = 15.0  # seconds from the order to the birth message
HURRY = 5.0  # seconds after which a busy slot that was asked to leave counts as one at work, not as one on its way
AT_ONCE = 8  # births under way at a time
REPLACED_AT_ONCE = 0.1  # of the live slots, and one at least


@dataclass(frozen=True, slots=True)
class Fork:
    """Order a slot from the mold, to serve these queues."""

    index: int
    queues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serve:
    """Tell a slot its queues."""

    index: int
    queues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a slot to leave after its task (TERM)."""

    index: int
    why: str


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    index: int
    why: str
    reason: Reason = Reason.MASTER


Action = Fork | Serve | Ask | Kill


@dataclass(frozen=True, slots=True)
class Desired:
    """What is wanted. ``slots``: index -> its queues; ``room``: how many more slots may be forked now, as long as their
    ``sizes`` fit into ``memory``.
    """

    slots: dict[int, tuple[str, ...]]
    can_fork: bool
    room: int
    grace: float  # seconds from TERM to KILL; unless all stops, those of its task do not count
    fast: bool = False  # no grace at all
    stopping: bool = False  # says only why slots are asked to leave
    generation: int = 0  # of the code that slots are to run; those of an older one are replaced
    busy: frozenset[int] = frozenset()  # slots in the middle of a task: replaced last
    retiring: Mapping[int, str] = field(default_factory=dict)  # slots to leave after their task, and why
    memory: float = float("inf")  # bytes for slots not yet forked
    sizes: Mapping[int, float] = field(default_factory=dict)  # index -> bytes that its slot is counted at
    stopping_since: float = 0.0  # no grace ends sooner after this than it lasts
    unready: frozenset[int] = frozenset()  # slots that were born and are not at work yet


@dataclass(slots=True)
class Plan:
    """The actions, and when to look again at the latest."""

    actions: list[Action] = field(default_factory=list)
    deadline: float = float("inf")

    def by(self, when: float) -> None:
        """Look again no later than this."""
        self.deadline = min(self.deadline, when)


def reconcile(desired: Desired, children: Children, now: float) -> Plan:
    """The difference between the map's row and the slots that are there."""
    plan = Plan()
    for child in children.tenants.values():
        _tenant(plan, desired, child, now)
    if not desired.can_fork:
        return plan
    _replace(plan, desired, children, now)
    _fork(plan, desired, children, now)
    return plan


def _fork(plan: Plan, desired: Desired, children: Children, now: float) -> None:
    places, memory = min(desired.room, AT_ONCE - children.count(Phase.ORDERED)), desired.memory
    tried = set()  # of the assignments whose slots have died one is tried at a time
    for index, queues in sorted(desired.slots.items()):
        if not queues or index in children.tenants:
            continue
        if queues in tried or not children.may_spawn(queues, now):
            again = children.loops.not_before(queues)
            plan.by(again if again > now else float("inf"))  # else one is tried: what comes of it is an event
        elif places > 0 and desired.sizes.get(index, 0) <= memory:
            plan.actions.append(Fork(index, queues))
            places, memory = places - 1, memory - desired.sizes.get(index, 0)
            if children.loops.are_failing(queues):
                tried.add(queues)


def _tenant(plan: Plan, desired: Desired, child: Child, now: float) -> None:
    match child.phase:
        case Phase.ORDERED | Phase.LIVE if desired.fast:
            plan.actions.append(Kill(child.index, "told to stop at once", Reason.STOPPED))
        case Phase.ORDERED:
            late = Kill(child.index, "not born in time", Reason.LATE_BIRTH)
            _kill_at(plan, child.since + BIRTH_WITHIN, late, now)
        case Phase.LIVE:
            _live(plan, desired, child, now)
        case Phase.LEAVING:
            worked = desired.stopping_since if desired.stopping else child.busy_at
            until = now if desired.fast else max(child.since, worked) + desired.grace
            _kill_at(plan, until, Kill(child.index, "did not leave in time", Reason.GRACE), now)


def _live(plan: Plan, desired: Desired, child: Child, now: float) -> None:
    queues = desired.slots.get(child.index, ())
    if child.index in desired.retiring and not desired.stopping:
        _ask(plan, desired, child, desired.retiring[child.index], now)
    elif not queues:
        _ask(plan, desired, child, "the master stops" if desired.stopping else "no longer on the map", now)
    elif queues != child.queues:
        plan.actions.append(Serve(child.index, queues))


def _replace(plan: Plan, desired: Desired, children: Children, now: float) -> None:
    asked = {action.index for action in plan.actions if isinstance(action, Ask)}
    living = [child for child in children.tenants.values() if child.phase is Phase.LIVE and child.index not in asked]
    old = [child for child in living if child.generation < desired.generation]
    waits = [queues for index, queues in desired.slots.items() if queues and index not in children.tenants]
    may_come = sum(children.may_spawn(queues, now) for queues in waits)
    away = len(children.tenants) - len(living) + len(waits) - may_come  # those held back by deaths before them
    away += len(desired.unready & {child.index for child in living})
    away += min(desired.room, may_come)
    away -= sum(_works_on(child, desired, now) for child in children.tenants.values())
    at_once = max(1, int(REPLACED_AT_ONCE * len(living))) - away
    old.sort(key=lambda child: (child.index in desired.busy, child.index))
    for child in old[: max(0, at_once)]:
        _ask(plan, desired, child, f"generation {desired.generation} takes its place", now)


def _works_on(child: Child, desired: Desired, now: float) -> bool:
    """Whether a slot that was asked to leave is in a task that may last: the others need not wait for it."""
    return child.phase is Phase.LEAVING and child.index in desired.busy and now - child.since >= HURRY


def _ask(plan: Plan, desired: Desired, child: Child, why: str, now: float) -> None:
    plan.actions.append(Ask(child.index, why))
    plan.by(now + desired.grace)


def _kill_at(plan: Plan, when: float, kill: Kill, now: float) -> None:
    if now >= when:
        plan.actions.append(kill)
    else:
        plan.by(when)
