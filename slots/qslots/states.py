"""The states of a task, and of a slot, as users see them."""

from enum import Enum, IntEnum


class TaskState(Enum):
    """Where a task stands. In brackets the word of My World's queue server."""

    NEW = "new"  # its time has not come [inactive]
    ENQUEUED = "enqueued"  # takeable [active]
    CLAIMED = "claimed"  # in a pack, not begun [locked]
    PROCESSING = "processing"  # running now [locked]
    SUCCESS = "success"  # acknowledged and deleted
    RETRIABLE_FAILURE = "retriable_failure"  # failed, to be run again at its new time [inactive]
    FATAL_FAILURE = "fatal_failure"  # buried, with the reason


class SlotState(IntEnum):
    """What a slot is doing; stored as a number in its scoreboard record."""

    ABSENT = 0
    STARTING = 1
    IDLE = 2
    TAKING = 3
    BUSY = 4
    LEAVING = 5
