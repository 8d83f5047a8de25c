"""Every error that qslots raises on purpose. Each message names the place and the remedy, on one line."""


class Error(Exception):
    """Root of all errors of qslots; str() of it is one line, fit to be printed as it is."""


class UsageError(Error, ValueError):
    """What a function of the library was given is not what it takes: a time, a size, a state, a count, an id."""


class SettingsError(Error):
    """A setting is unknown or has a bad value; the message begins with its path."""


class HandlerError(Error):
    """A handler is declared wrongly: a name used twice, an option or a signature that cannot be served."""


class ArgumentsError(Error):
    """The arguments of a task do not fit its handler; names queue, handler and the path of the bad field."""


class DuplicateTask(Error):
    """A task of this id is in the queue already (``on_duplicate="refuse"``); nothing of the call was stored."""


class TaskTooLarge(ArgumentsError):
    """The arguments of a task are larger than its queue allows (``max_size``)."""


class UnknownTask(Error):
    """No task of this id is in the queue: it is done, was deleted, or never was."""


class TaskLocked(Error):
    """A slot has this task just now, so it cannot be changed behind the slot's back."""


class TaskFailed(Error):
    """The task whose result was asked for is buried; the message ends with the last line of the reason, of which
    ``error`` is the whole: of what the handler has raised, the traceback.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class NoResult(Error):
    """The task is finished or gone and its result is not kept (any more)."""


class ResultTimeout(Error, TimeoutError):
    """The task was not finished in the time allowed; it goes on."""


class LockLost(Error):
    """The tasks taken by ``Queue.take`` were taken away before the block ended: they may run again elsewhere."""


class QueueServerError(Error):
    """The queue server refused or could not be used; the message says which one and why.

    ``code`` is the word with which one of our scripts has refused (TAKEN, REPLACED, REIGNING, DEPOSED, …), else "".
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class QueueServerDown(QueueServerError):
    """No answer from the queue server within the time-out, or it refuses for now (memory full, read-only).

    Repeating the same operation is safe; an ``enqueue`` without an id of its own makes a new task each time.
    ``sent`` is False only if certainly nothing was done: no connection came about, or the server has refused.
    """

    def __init__(
        self, message: str, code: str = "", *, sent: bool = True, serves_nobody: bool = False
    ) -> None:  # fmt: skip
        super().__init__(message, code)
        self.sent = sent
        self.serves_nobody = serves_nobody  # it is not there, or loads its data; under Sentinel that cannot be known


class NotDurable(QueueServerError):
    """Stored on the queue server, but not proven to be on disk within the time that ``durability`` allows.

    Nothing is taken back: the task may run. Putting it again under the same id is safe.
    """


class NotReplicated(NotDurable):
    """Stored on the primary, but not proven to be on as many replicas as ``durability`` asks for."""


class CannotKeep(QueueServerError):
    """The queue server is not set up to keep what the queue's ``durability`` promises; nothing was stored."""


class NoServerProgram(Error):
    """This machine has no redis-server or valkey-server that is new enough."""


class HolderDead(QueueServerError):
    """This slot was declared dead and its packs settled; it must end and touch nothing more."""
