"""An application of nothing, for slots that idle; or of MEMORY_BENCH_HELD megabytes that all slots share."""

import os

import qslots

HELD = os.urandom(1 << 20) * int(os.environ.get("MEMORY_BENCH_HELD", "0"))


@qslots.task(queue="work")
def work(n: int) -> None:
    """Nothing."""
