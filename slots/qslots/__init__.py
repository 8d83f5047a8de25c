"""qslots: a fleet of worker processes that drains queues. This is what applications import."""

from .client import connect
from .errors import (
    ArgumentsError,
    DuplicateTask,
    Error,
    HandlerError,
    LockLost,
    NoResult,
    NotDurable,
    NotReplicated,
    QueueServerDown,
    QueueServerError,
    ResultTimeout,
    SettingsError,
    TaskFailed,
    TaskLocked,
    TaskTooLarge,
    UnknownTask,
    UsageError,
)
from .limits import extend
from .outcomes import Bury, Postpone, Retry, SoftTimeLimit
from .queries import Owner, TaskInfo
from .queues import Queue
from .states import TaskState
from .tasks import Task, TaskFunction, current_task, task

__version__ = "0.1.0"

__all__ = [
    "ArgumentsError",
    "Bury",
    "DuplicateTask",
    "Error",
    "HandlerError",
    "LockLost",
    "NoResult",
    "NotDurable",
    "NotReplicated",
    "Owner",
    "Postpone",
    "Queue",
    "QueueServerDown",
    "QueueServerError",
    "ResultTimeout",
    "Retry",
    "SettingsError",
    "SoftTimeLimit",
    "Task",
    "TaskFailed",
    "TaskFunction",
    "TaskInfo",
    "TaskLocked",
    "TaskState",
    "TaskTooLarge",
    "UnknownTask",
    "UsageError",
    "connect",
    "current_task",
    "extend",
    "task",
]
