"""What a task takes in packs of another size than those seen: the line pack = a + b * k through what was counted. Pure.

A pack has a cost of its own, so more slots make smaller packs, which take longer a task and seem to ask for more slots.
What is said here is on the careful side of the line (two standard errors above it): noise must not make tasks look
cheaper than they are. Least squares with one regressor as in any text book (Draper and Smith, ch. 1); a negative cost
is none. Times are seconds.
"""

import math
from collections.abc import Iterable

from qslots.packtimes import PackTimes

ENOUGH = 10  # packs through which a line is drawn
SPREAD = 0.1  # least standard deviation of their sizes, in mean sizes: packs of one size show no line


def fitted(times: PackTimes, size: float) -> float | None:
    """Seconds a task in packs of ``size`` tasks; None where the packs counted are too few or too much alike."""
    if times.n < ENOUGH or times.k <= 0:
        return None
    mean_size, mean_time = times.k / times.n, times.t / times.n
    spread = times.kk - times.k * mean_size
    if spread < times.n * (SPREAD * mean_size) ** 2:
        return None
    each = (times.kt - times.t * mean_size) / spread
    own = mean_time - each * mean_size
    if each < 0.0:
        own, each = mean_time, 0.0
    elif own < 0.0:
        own, each = 0.0, times.kt / times.kk
    left = times.tt - 2 * own * times.t - 2 * each * times.kt + 2 * own * each * times.k
    left += own * own * times.n + each * each * times.kk  # sum of squares beside the line
    variance = max(0.0, left) / (times.n - 2) * (1 / times.n + (size - mean_size) ** 2 / spread)
    return (own + each * size + 2 * math.sqrt(variance)) / size


def first_fitted(windows: Iterable[PackTimes], size: float) -> float | None:
    """By the first of these windows through whose packs a line can be drawn."""
    return next((found for times in windows if (found := fitted(times, size)) is not None), None)
