"""How much may be measured now. Pure: seconds of processor time, and ``now``.

Reading what a process uses costs 2 to 4 ms a GB, and 51 ms for one of 2 GB that just forks. What a turn has spent
beyond its share is taken from the next ones, so measuring keeps to its share whatever one reading costs.
"""

from dataclasses import dataclass

SHARE = 0.01  # of one processor goes into measuring


@dataclass(frozen=True, slots=True)
class Pace:
    """``credit`` was left at ``at``; it grows by SHARE a second up to one second's worth, and may be a debt."""

    credit: float = SHARE
    at: float = 0.0

    def allowed(self, now: float) -> float:
        """Seconds that may be spent now; none in a turn that pays off a debt."""
        return max(0.0, self._left(now))

    def spent(self, seconds: float, now: float) -> "Pace":
        """After so much was spent."""
        return Pace(self._left(now) - seconds, now)

    def _left(self, now: float) -> float:
        return min(SHARE, self.credit + SHARE * max(0.0, now - self.at))
