"""Where a log line comes from: in mold and slots each record of each logger knows task, queue, handler, server, slot.

So the application's own formatters and handlers can print them. Nothing is done before something is logged.
"""

import logging

from .running import here

FIELDS = ("task_id", "queue", "handler", "server", "slot")  # of a record; "-" where there is none
_PLACE = ["-", "-"]  # server and slot of this process


class _Placed(logging.LogRecord):
    """A record that knows where it was logged, also when it is formatted later and in another thread.

    The fields are added when it is formatted, and not before: ``extra`` of an application may have the same names,
    which logging refuses for what is there already.
    """

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        for name, value in zip(FIELDS, self.__dict__.pop("_place", ()), strict=False):
            self.__dict__.setdefault(name, value)
        return super().getMessage()

    def __getattr__(self, name: str) -> str:
        if name in FIELDS and "_place" in self.__dict__:
            return str(self.__dict__["_place"][FIELDS.index(name)])
        raise AttributeError(name)


def carry(server: str = "-", slot: int | None = None) -> None:
    """From now on every record of this process says where it was logged, whatever factory the application has set."""
    _PLACE[:] = [server, "-" if slot is None else str(slot)]
    before = logging.getLogRecordFactory()
    kinds: dict[type, type] = {logging.LogRecord: _Placed}

    def placed(*args: object, **kwargs: object) -> logging.LogRecord:
        record: logging.LogRecord = before(*args, **kwargs)
        if isinstance(record, _Placed):
            return record
        kind = type(record)
        if kind not in kinds:
            kinds[kind] = type(kind.__name__, (_Placed, kind), {})
        record.__class__ = kinds[kind]
        record.__dict__["_place"] = _place()
        return record

    logging.setLogRecordFactory(placed)


def _place() -> tuple[str, ...]:
    running = here()
    work = running.work
    if work is None:
        return ("-", "-", "-", *_PLACE)
    handler = work.handler
    task = running.parent if running.parent and not handler.arguments.takes_pack else "-"
    return (task, handler.queue, handler.name, *_PLACE)
