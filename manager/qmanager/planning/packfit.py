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


def fitted(later: PackTimes, earlier: PackTimes, size: float) -> float | None:
    """Seconds a task in packs of ``size`` tasks, by those between two readings; None if they are too few or alike."""
    n, k, t = later.n - earlier.n, later.k - earlier.k, later.t - earlier.t
    if n < ENOUGH or k <= 0:
        return None
    kk, kt, tt = later.kk - earlier.kk, later.kt - earlier.kt, later.tt - earlier.tt
    mean_size, mean_time = k / n, t / n
    spread = kk - k * mean_size
    if spread < n * (SPREAD * mean_size) ** 2:
        return None
    each = (kt - t * mean_size) / spread
    own = mean_time - each * mean_size
    if each < 0.0:
        own, each = mean_time, 0.0
    elif own < 0.0:
        own, each = 0.0, kt / kk
    left = tt - 2 * own * t - 2 * each * kt + 2 * own * each * k + own * own * n + each * each * kk  # beside the line
    variance = max(0.0, left) / (n - 2) * (1 / n + (size - mean_size) ** 2 / spread)
    return (own + each * size + 2 * math.sqrt(variance)) / size


def first_fitted(later: PackTimes, earlier: Iterable[PackTimes], size: float) -> float | None:
    """By the first of these earlier readings since which there were packs through which a line can be drawn."""
    return next((found for each in earlier if (found := fitted(later, each, size)) is not None), None)
