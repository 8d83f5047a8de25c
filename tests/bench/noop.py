"""The application of the benchmarks: handlers that do nothing, and one that says how late it was started."""

import os
import struct
import time

from qslots import task


@task(queue="noop", batch=500, min_slots=2)
def noop(n: int) -> None:
    """Nothing: what is measured is everything else."""


@task(queue="noop", batch=1)
def late(asked: int, pipe: str) -> None:
    """Writes the ns between the call of ``enqueue`` and now; monotonic time is one for all processes."""
    delay = time.monotonic_ns() - asked
    descriptor = os.open(pipe, os.O_WRONLY)
    os.write(descriptor, struct.pack("=q", delay))
    os.close(descriptor)
