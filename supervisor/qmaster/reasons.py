"""Why a slot ended, in the few words under which status and reports count it. Pure.

Besides these there are ``signal:NAME`` and ``exit:CODE``, for ends that were not the master's doing (see ``deaths``).
"""

from enum import StrEnum


class Reason(StrEnum):
    """The master's part in it, or what the kernel's counters say."""

    LEFT = "left"  # asked to, it has gone after its task
    STOPPED = "stopped"  # killed because the master ends at once
    GRACE = "grace exceeded"  # asked to leave, it has not in time
    TIME_LIMIT = "time limit"
    MEMORY = "memory"  # killed by the kernel, or by us above its limit
    SILENT = "silent"  # no sign of life, and no task that would explain it
    NO_ATTEMPT = "no attempt"  # idle beside tasks that wait
    LATE_BIRTH = "late birth"
    UNBORN = "unborn"  # its channel ended before it said that it lives
    LOCK_LOST = "lock lost"  # its pack was taken away
    UNTRUSTED = "lock not extended"
    MASTER = "ended by its master"  # for another reason of the master's, which the log tells


FAILURES = {Reason.SILENT, Reason.NO_ATTEMPT, Reason.LATE_BIRTH}  # of the slot itself, though it was we who killed it
