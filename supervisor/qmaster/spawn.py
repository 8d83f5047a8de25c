"""Starts mold and courier: fresh interpreters by posix_spawn, never by fork, with just the descriptors they need.

No subprocess module here: it would wait for children that the master's own reaper waits for.
"""

import fcntl
import os
import sys

from . import rlimits

# Native thread pools that libraries start at import; slots are forked from one thread and have one each.
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_FIRST = 3


def spawn(module: str, descriptors: list[int], **more: str) -> int:
    """Runs ``python -m module`` in a session of its own; the descriptors become 3, 4, 5, … there. Returns its pid.

    ``more`` is added to its environment.
    """
    environ = {**dict.fromkeys(_ONE_THREAD, "1"), **os.environ, **more}
    above = _FIRST + len(descriptors)  # so that none is overwritten before it is copied
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in descriptors]
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(high, _FIRST)),
    ]
    try:
        with rlimits.as_inherited():
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", module],
                environ,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
            )
    finally:
        for each in high:
            os.close(each)
