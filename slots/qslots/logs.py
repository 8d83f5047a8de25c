"""Log lines that never hold anybody up: a reader of stderr that stalls costs lines, not work.

A pipe that poll calls writable takes 4,096 bytes without waiting; longer lines are cut. What could not be written is
counted, and the count is written before the next line that can be.
"""

import contextlib
import io
import logging
import os
import select
import sys

LONGEST = 4000  # bytes of a line, the newline not counted


class PatientHandler(logging.Handler):
    """Writes to a descriptor if that can be done at once."""

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or one more that was dropped."""
        try:
            text = self.format(record)
            if self._dropped and self._written(f"({self._dropped} log lines were dropped: nobody read them)"):
                self._dropped = 0
            if self._dropped or not self._written(text):
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def _written(self, text: str) -> bool:
        ready = self._poll.poll(0)
        if not ready or not ready[0][1] & select.POLLOUT:
            return False
        try:
            os.write(self._descriptor, text.encode(errors="replace")[:LONGEST] + b"\n")
        except OSError:  # the reader is gone: there is nobody to tell
            return False
        return True


def print_by_lines() -> None:
    """What the application prints goes out line by line, also into a file or a pipe; so no fork doubles any of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def flush() -> None:
    """What was printed and logged goes out now: for a process that ends without the interpreter's own exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads, or there is none
            stream.flush()
    logging.shutdown()


def to_stderr(who: str) -> None:
    """Log lines of this process go to stderr as ``who``'s, unless the application has set up its own logging."""
    root = logging.getLogger()
    if any(not isinstance(handler, PatientHandler) for handler in root.handlers):
        return
    handler = PatientHandler()
    handler.setFormatter(_Formatter(who))
    root.handlers = [handler]
    root.setLevel(logging.INFO)


class _Formatter(logging.Formatter):
    """Our own lines: who says it, and while which task. Ours that are about a task name it anyway."""

    def __init__(self, who: str) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._who = who

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        queue, task = getattr(record, "queue", "-"), getattr(record, "task_id", "-")
        where = "" if task == "-" or record.name.startswith("qslots.") else f" [{queue} {task}]"
        return f"{record.asctime} {record.levelname} {self._who}{where}: {record.message}"
