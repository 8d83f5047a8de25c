"""qslots: a fleet of worker processes that drains queues. This is what applications import."""

from .client import connect
from .errors import (
    ArgumentsError,
    DuplicateTask,
    Error,
    HandlerError,
    QueueServerDown,
    QueueServerError,
    SettingsError,
)
from .outcomes import Bury, Postpone, Retry, SoftTimeLimit
from .queues import Queue
from .states import TaskState
from .tasks import Task, TaskFunction, task

__version__ = "0.1.0"

__all__ = [
    "ArgumentsError",
    "Bury",
    "DuplicateTask",
    "Error",
    "HandlerError",
    "Postpone",
    "Queue",
    "QueueServerDown",
    "QueueServerError",
    "Retry",
    "SettingsError",
    "SoftTimeLimit",
    "Task",
    "TaskFunction",
    "TaskState",
    "connect",
    "task",
]
