"""What the machine of the queue's model may do: handlers, tasks and times to choose from, and the slots that do it."""

from dataclasses import dataclass

from hypothesis import strategies as st

from qslots.outcomes import Outcome

from .holder import Holder

HANDLERS = ("h", "x")
NAMES = {handler: [f"{handler}{n}" for n in range(7)] for handler in HANDLERS}
KNOWN = (HANDLERS, HANDLERS, ("h",))  # slot 2 is of an older generation
HOUR = 3_600_000_000
CLIENTS = st.integers(0, 2)
SOME = st.integers(0, 99)
HANDLER = st.sampled_from(HANDLERS)
COLLECTION = st.sampled_from(["c", "", "d"])
HOW = st.sampled_from(["refuse", "ignore", "replace", "rearm"])
WHEN = st.sampled_from(["", "", "1", "2", "3", f"+{HOUR}", "4000000000000000"])
POSITIONS = st.sets(st.integers(1, 6), max_size=4)
GATES = st.sampled_from(["queue:", "handler:x", "collection:c", "collection:d"])
KINDS = st.sampled_from(["fail", "crash", "retry", "loss", "postpone", "bury", "done", "back"])
DELAYS = st.sampled_from([0.0, float(HOUR)])
OUTCOMES = st.builds(Outcome, KINDS, st.just("why"), limit=st.just(2), delay=DELAYS, cap=st.just(9.0)) | st.builds(
    Outcome, st.sampled_from(["fail", "crash", "retry", "loss"]), limit=st.just(2), cap=st.just(9.0)
)


@dataclass
class Slot:
    """One incarnation; ``unread``: the answer to its last request has not come yet."""

    holder: Holder
    handlers: tuple[str, ...]
    unread: bool = False
    most: int = 0

    def lock(self, seq: int | None) -> str:
        return f"{self.holder.name}:{seq}"

    @property
    def want(self) -> dict[str, int]:
        return dict.fromkeys(self.handlers, self.most)
