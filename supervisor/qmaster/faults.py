"""Faults of our own in the master's loop. Pure; times are monotonic seconds given by the caller.

One is told of with its traceback and the loop goes on: an oversight about one slot is no reason to end all others. But
a master that fails again and again does not do its work, and another one might: so many of them within a minute end it,
with a code of its own. Of those that come in a row as fast as the loop turns, one is told and counted each time.
"""

from dataclasses import dataclass, field

EVERY = 0.5  # seconds; what comes sooner after one that was told is the same one
MOST = 10
WITHIN = 60.0  # seconds
LAST = 10.0  # seconds to end in good order without another fault


@dataclass(slots=True)
class Faults:
    """Those of one master."""

    _at: list[float] = field(default_factory=list)
    end_by: float = float("inf")  # when it is to be over, in good order or not

    def counts(self, now: float) -> bool:
        """One more. Whether it is to be told."""
        if self._at and now < self._at[-1] + EVERY:
            return False
        self._at = [at for at in self._at if now < at + WITHIN] + [now]
        if len(self._at) >= MOST:
            self.end_by = min(self.end_by, now + LAST)
        return True

    @property
    def are_too_many(self) -> bool:
        """Whether to give up."""
        return self.end_by < float("inf")
