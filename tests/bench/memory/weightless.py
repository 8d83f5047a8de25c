"""An application of nothing, for slots that idle; or of MEMORY_BENCH_HELD megabytes that all slots share."""

import os

import qslots

_MEGABYTES = int(os.environ.get("MEMORY_BENCH_HELD", "0"))
HELD = os.urandom(1 << 20) * (_MEGABYTES // 2)
SMALL = [float(n) for n in range((_MEGABYTES << 19) // 32)]  # the other half: 24 bytes each, and 8 in the list


@qslots.task(queue="work")
def work(n: int) -> None:
    """Nothing."""
