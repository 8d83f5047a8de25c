"""How long packs take, as counters that only rise: enough to tell a pack's own cost from that of its tasks. Pure.

Only differences of two readings mean something. Readings of several queue servers add up. Time is in seconds.
"""

import itertools
import math
from collections.abc import Mapping

import msgspec

_SUMS = {"n": 1.0, "k": 1.0, "kk": 1.0, "t": 1e6, "kt": 1e6, "tt": 1e12}  # field of `counters` -> its unit in ours
_LONGEST = 63  # the highest power of two, of µs: longer than people have counted years


class PackTimes(msgspec.Struct, frozen=True):
    """Sums over packs of handlers that take several tasks at a time; ``took`` is of all handlers."""

    n: float = 0.0  # packs that were done in one go; of those with one task every fourth
    k: float = 0.0  # their tasks
    kk: float = 0.0  # squares of their tasks
    t: float = 0.0  # their time
    kt: float = 0.0  # tasks times time
    tt: float = 0.0  # squares of their time
    took: tuple[int, ...] = ()  # how often handlers ran for 0.5 to 1 µs, for 1 to 2 µs, 2 to 4 µs, … in one go

    @classmethod
    def counted(cls, counters: Mapping[str, int]) -> "PackTimes":
        """Those of the ``counters`` of a queue. ValueError where a time is named that no pack can take."""
        n, k, kk, t, kt, tt = (counters.get(f"pack:{name}", 0) / unit for name, unit in _SUMS.items())
        powers = {int(name[5:]): times for name, times in counters.items() if name.startswith("took:")}
        if not all(0 <= power <= _LONGEST for power in powers):
            raise ValueError(f"runs of 2 to the power of {max(powers, key=abs)} µs are counted")
        took = tuple(powers.get(power, 0) for power in range(max(powers, default=-1) + 1))
        return cls(n, k, kk, t, kt, tt, took)

    def plus(self, other: "PackTimes", sign: int = 1) -> "PackTimes":
        """Both together."""
        took = itertools.zip_longest(self.took, other.took, fillvalue=0)
        return PackTimes(
            self.n + sign * other.n, self.k + sign * other.k, self.kk + sign * other.kk, self.t + sign * other.t,
            self.kt + sign * other.kt, self.tt + sign * other.tt, tuple(mine + sign * its for mine, its in took),
        )  # fmt: skip

    def since(self, earlier: "PackTimes") -> "PackTimes":
        """What has come since an earlier reading."""
        return self.plus(earlier, -1)

    def quantile(self, share: float, earlier: "PackTimes") -> tuple[int, float | None]:
        """How often handlers ran since an earlier reading, and the seconds within which ``share`` of these runs ended:
        between two powers of two a guess, None if there were none.
        """
        if self.took == earlier.took:
            return 0, None
        runs = [now - then for now, then in itertools.zip_longest(self.took, earlier.took, fillvalue=0)]
        total = sum(runs)
        due = share * total
        for power, times in enumerate(runs):
            if times > 0 and due <= times:
                return total, math.ldexp(0.5 + 0.5 * max(0.0, due) / times, power) / 1e6
            due -= times
        return total, None
