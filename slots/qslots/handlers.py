"""What an application declares: handlers, the queues they serve, the arguments they take. Pure data and its checks.

Priority, slots, lock, target_delay, memory, rate, durability, dedupe_window and max_size belong to the queue and must
agree among its handlers; batch, limits, backoff, never_retry and keep_result belong to the handler. A declaration that
cannot be served is refused at import, naming both places.
"""

import copy
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence

import msgspec

from . import functions, given, periodic
from .errors import ArgumentsError, HandlerError, SettingsError, UsageError
from .keys import check_name
from .options import HANDLER_OPTIONS, QUEUE_OPTIONS, Options, check_known, handler_options, queue_options
from .records import signature
from .reports import Declared, HandlerDeclared, Periodic, QueueDeclared
from .settings import QueueSettings

_encode = msgspec.msgpack.Encoder().encode
_astuple = msgspec.structs.astuple
_NONE: dict[str, object] = {}
_CANNOT = (TypeError, ValueError, OverflowError, RecursionError)  # what encoding raises of what cannot be stored
Call = tuple[tuple[typing.Any, ...], Mapping[str, typing.Any]]  # positional and named arguments


class PackBody(msgspec.Struct, array_like=True):
    """The arguments of a task whose handler takes whole packs: free in form."""

    args: tuple[typing.Any, ...] = ()
    kwargs: dict[str, typing.Any] = {}


_free: msgspec.msgpack.Decoder[typing.Any] = msgspec.msgpack.Decoder(PackBody | dict[str, typing.Any])


def free_arguments(body: bytes | memoryview) -> PackBody:
    """Stored arguments without parameters to hold them against. Who puts a task without knowing that its handler takes
    whole packs stores names only.
    """
    found = _free.decode(body)
    return found if isinstance(found, PackBody) else PackBody((), found)


class Arguments:
    """The parameters of one handler: turns a call into bytes that fit, and bytes into a call."""

    __slots__ = ("_decode", "_names", "kind", "positional", "signature", "takes_pack")

    def __init__(self, function: Callable[..., object], takes_pack: bool) -> None:
        self.takes_pack = takes_pack
        parameters = [] if takes_pack else list(inspect.signature(function).parameters.values())
        self._names = tuple(each.name for each in parameters)
        self.positional = tuple(each.name for each in parameters if each.kind is not each.KEYWORD_ONLY)
        self.kind: type[msgspec.Struct] = PackBody if takes_pack else _struct_of(function, parameters)
        self._decode = free_arguments if takes_pack else msgspec.msgpack.Decoder(self.kind).decode
        self.signature = signature(", ".join(str(each) for each in parameters) if not takes_pack else "*pack")

    def body(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """The call as msgpack; ArgumentsError with the path of the field that does not fit."""
        if self.takes_pack:
            stored = encoded([args, kwargs])
            self.decode(stored)
            return stored
        if len(args) > len(self.positional):
            raise ArgumentsError(f"takes {len(self.positional)} positional arguments, {len(args)} were given")
        call = dict(zip(self.positional, args, strict=False))
        if kwargs:
            twice = call.keys() & kwargs.keys()
            if twice:
                raise ArgumentsError(f"argument {min(twice)} is given twice")
            call.update(kwargs)
        stored = encoded(call)
        self.decode(stored)
        return stored

    def bodies(self, calls: Sequence[Call]) -> list[bytes]:
        """``body`` of many calls: the plain ones, all arguments positional, without a function call for each."""
        stored, names, decode = [], self.positional, self._decode
        plain = not self.takes_pack
        for args, kwargs in calls:
            if kwargs or not plain or len(args) > len(names):
                stored.append(self.body(args, kwargs))
                continue
            try:
                packed = _encode(dict(zip(names, args, strict=False)))
                decode(packed)
            except (*_CANNOT, msgspec.MsgspecError):
                packed = self.body(args, kwargs)  # says what does not fit
            stored.append(packed)
        return stored

    def decode(self, body: bytes | memoryview) -> msgspec.Struct:
        """The arguments of a stored task, checked again."""
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise ArgumentsError(_with_path(str(error))) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise ArgumentsError(f"the stored arguments cannot be read: {error}") from None

    def call(self, body: bytes | memoryview) -> tuple[tuple[object, ...], dict[str, object]]:
        """The positional and keyword arguments that a stored body holds. ArgumentsError if they do not fit."""
        fields = _astuple(self.decode(body))
        count = len(self.positional)
        if count == len(fields):
            return fields, _NONE
        if self.takes_pack:
            args, kwargs = fields
            return args, kwargs
        return fields[:count], dict(zip(self._names[count:], fields[count:], strict=True))


def encoded(call: object) -> bytes:
    """Arguments as msgpack; ArgumentsError if they cannot be stored."""
    try:
        return _encode(call)
    except _CANNOT as error:
        raise ArgumentsError(f"cannot be stored: {error}") from None


class Takes(typing.Protocol):
    """What is asked of the parameters of a handler; ``Arguments`` are those of one that is known here."""

    @property
    def takes_pack(self) -> bool: ...
    @property
    def signature(self) -> int: ...
    @property
    def positional(self) -> tuple[str, ...]: ...
    def bodies(self, calls: Sequence[Call]) -> list[bytes]: ...
    def decode(self, body: bytes | memoryview) -> msgspec.Struct: ...
    def call(self, body: bytes | memoryview) -> tuple[tuple[typing.Any, ...], dict[str, typing.Any]]: ...


class Handler(msgspec.Struct, frozen=True):
    """One handler of the application."""

    name: str
    queue: str
    function: Callable[..., object]
    options: Options
    arguments: Takes
    where: str  # file:line, for messages
    is_async: bool = False  # calling it gives a coroutine
    periodic: Periodic | None = None

    @property
    def beside(self) -> int:
        """How many of its tasks run at a time."""
        alone = self.arguments.takes_pack or not self.is_async
        return 1 if alone else min(self.options.batch, self.options.concurrency or self.options.batch)

    def misfit(self, error: ArgumentsError) -> ArgumentsError:
        """The error with the handler's name and place before it."""
        return ArgumentsError(f"task {self.name} (queue {self.queue}, {self.where}): {error}")


class Registry:
    """All handlers of this process, and what they say of their queues."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self._said: dict[str, dict[str, tuple[object, str]]] = {}  # queue -> option -> value, where
        self._queues: dict[tuple[str, QueueSettings | None], QueueDeclared] = {}  # worked out once

    def add(self, handler: Handler, queue_options: Mapping[str, object]) -> None:
        """Adds a handler; HandlerError if its name is used, or its queue was declared otherwise."""
        known = self.handlers.get(handler.name)
        if known is not None and known.where != handler.where:
            raise HandlerError(
                f"handler {handler.name} is declared at {known.where} and again at {handler.where}: "
                "give one of them another name, @task(name=…)"
            )
        said = self._said.get(handler.queue, {})
        for option, value in queue_options.items():
            before, where = said.get(option, (value, ""))
            if before != value:
                raise HandlerError(
                    f"queue {handler.queue}: {option} is {before!r} at {where} and {value!r} at {handler.where}: "
                    "options of a queue must agree among its handlers"
                )
        agreed = said | {option: (value, handler.where) for option, value in queue_options.items()}
        try:
            given.slots(*(agreed.get(option, (None,))[0] for option in ("min_slots", "max_slots")))
        except UsageError as error:
            places = ", ".join(sorted({agreed["min_slots"][1], agreed["max_slots"][1]}))
            raise HandlerError(f"queue {handler.queue}: {error} ({places})") from None
        self._said[handler.queue] = agreed
        self.handlers[handler.name] = handler
        self._queues.clear()

    def of_queue(self, queue: str) -> list[Handler]:
        """The handlers that serve a queue."""
        return [handler for handler in self.handlers.values() if handler.queue == queue]

    def queue(self, name: str, override: QueueSettings | None = None) -> QueueDeclared:
        """What is declared here of one queue, known or not, with what settings say of it on top."""
        key = (name, override)
        if key not in self._queues:
            self._queues[key] = self._queue(name, override)
        return self._queues[key]

    def said_where(self, queue: str, option: str) -> str:
        """file:line of the handler that says this option of a queue; "" if none does."""
        return self._said.get(queue, {}).get(option, (None, ""))[1]

    def declared(self, overrides: Mapping[str, QueueSettings]) -> Declared:
        """What the manager must know, the settings file applied."""
        names = sorted({handler.queue for handler in self.handlers.values()})
        return Declared(tuple(self._queue(name, overrides.get(name)) for name in names))

    def _queue(self, name: str, override: QueueSettings | None) -> QueueDeclared:
        values = {option: value for option, (value, _) in self._said.get(name, {}).items()}
        handlers = tuple(
            HandlerDeclared(h.name, h.options.batch, h.options.time_limit, h.periodic) for h in self.of_queue(name)
        )
        return overridden(msgspec.convert({"name": name, **values, "handlers": handlers}, QueueDeclared), override)


def overridden(queue: QueueDeclared, override: QueueSettings | None) -> QueueDeclared:
    """A declared queue with what a settings file says of it on top."""
    if override is None:
        return queue
    chosen = {key: value for key, value in msgspec.structs.asdict(override).items() if value is not None}
    chosen.pop("queue_server", None)
    return msgspec.structs.replace(queue, **queue_options(chosen, f"queues.{queue.name}"))


REGISTRY = Registry()


def declare(function: Callable[..., object], name: str | None, queue: str | None, options: Mapping[str, object],
            pack_of: type) -> tuple[Handler, dict[str, object]]:  # fmt: skip
    """A handler made of a function and the options of its decorator, with what it says of its queue."""
    where = functions.place(function)
    check_known(options, where)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HandlerError(f"{where}: a handler is no generator, nothing of it would run; return instead of yield")
    try:
        handler_name = check_name(name or getattr(function, "__name__", None), f"{where}: the handler name")
        queue_name = check_name(queue or handler_name, f"{where}: the queue name")
    except SettingsError as error:
        raise HandlerError(str(error)) from None
    if functions.is_method(function):
        raise HandlerError(
            f"{where}: {handler_name} is a method, and no slot has an object to call it on: "
            "use a function of the module"
        )
    own = handler_options({key: options[key] for key in options if key in HANDLER_OPTIONS}, where)
    of_queue = queue_options({key: options[key] for key in options if key in QUEUE_OPTIONS}, where)
    try:
        arguments = Arguments(function, _takes_pack(function, pack_of))
    except (TypeError, NameError, ValueError) as error:
        raise HandlerError(f"{where}: the parameters of {handler_name} cannot be checked: {error}") from None
    if own.keep_result is not None and arguments.takes_pack:
        raise HandlerError(
            f"{where}: {handler_name} takes whole packs, which return nothing for a task: no keep_result"
        )
    is_async = inspect.iscoroutinefunction(function)
    if own.concurrency is not None and (arguments.takes_pack or not is_async):
        raise HandlerError(
            f"{where}: {handler_name} has a concurrency, which only an async handler of single tasks can have; "
            "write async def, or leave the option out"
        )
    return Handler(
        handler_name, queue_name, function, own, arguments, where, is_async,
        _periodic(own, arguments, f"{where}: {handler_name}"),
    ), of_queue  # fmt: skip


def _periodic(options: Options, arguments: Arguments, where: str) -> Periodic | None:
    fields = msgspec.structs.fields(arguments.kind)
    said = Periodic(
        options.every, options.cron, options.tz, options.catch_up, options.overlap, arguments.signature
    )  # fmt: skip
    try:
        return periodic.declared(said, [each.name for each in fields if each.required])
    except ValueError as error:
        raise HandlerError(f"{where}: {error}") from None


def _takes_pack(function: Callable[..., object], pack_of: type) -> bool:
    hints = _hints(function)
    if list[pack_of] in hints.values() and len(inspect.signature(function).parameters) != 1:  # type: ignore[valid-type]
        raise TypeError("a handler that takes list[Task] has no other parameter")
    return list(hints.values()) == [list[pack_of]] and len(inspect.signature(function).parameters) == 1  # type: ignore[valid-type]


def _hints(function: Callable[..., object]) -> dict[str, typing.Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    return hints


def _struct_of(function: Callable[..., object], parameters: list[inspect.Parameter]) -> type[msgspec.Struct]:
    hints = _hints(function)
    fields: list[typing.Any] = []
    for each in parameters:
        if each.kind is each.POSITIONAL_ONLY:
            raise TypeError(f"{each} stands before a /, and arguments are stored by name: take the / out")
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise TypeError(f"{each} is not served: name each parameter, or take list[Task]")
        field: tuple[object, ...] = (each.name, hints.get(each.name, typing.Any))
        if each.default is not each.empty:
            field += (_default(each.default),)
        fields.append(field)
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _default(value: object) -> object:
    immutable = value is None or isinstance(value, (bool, int, float, str, bytes))
    return value if immutable else msgspec.field(default_factory=lambda: copy.deepcopy(value))


def _with_path(text: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.size`" with the path first."""
    what, _, path = text.partition(" - at ")
    return f"argument {path.strip('`').removeprefix('$.')}: {what}" if path else what
