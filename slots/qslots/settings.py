"""The settings that all three programs read: one YAML file, overridden by the environment, then by the command line.

Pure but for ``read``, which opens the file. Whatever does not fit is refused with its path, its value and the nearest
valid name; a settings object is whole or it is not made.
"""

import copy
import pathlib
import typing
from collections.abc import Mapping

import msgspec
import yaml

from . import durability, given, rlimits
from .errors import SettingsError, UsageError
from .keys import check_name
from .units import duration, rate, share, size

DEFAULT_FILE = pathlib.Path("/etc/qslots/qslots.yml")
LEFT_BY_UP = pathlib.Path(".qslots/redis.sock")  # where `qslots up` of this folder puts its private queue server


class ServerSettings(msgspec.Struct, frozen=True):
    """What concerns one server. ``name`` None means the host's name."""

    name: str | None = None
    reserve_memory: str | int = "10%"
    private_limit: str | int = "256M"
    max_slots: int | typing.Literal["auto"] = "auto"
    user: str | None = None
    graceful_timeout: str | float = "30s"
    runtime_dir: str | None = None
    state_dir: str | None = None
    log_file: str | None = None
    load_timeout: str | float = "5m"
    limits: dict[str, int | str] = {}
    no_new_privileges: bool = True
    recycle_after_tasks: int | None = None
    recycle_after: str | float | None = None


class ManagerSettings(msgspec.Struct, frozen=True):
    """What concerns the manager."""

    interval: str | float = "1s"
    lost_after: str | float = "5s"
    listen: str | None = None
    runtime_dir: str | None = None


class QueueSettings(msgspec.Struct, frozen=True):
    """What overrides the code's declaration of one queue; None leaves it as declared."""

    priority: int | None = None
    min_slots: int | None = None
    max_slots: int | None = None
    target_delay: str | float | None = None
    lock: str | float | None = None
    memory: str | int | None = None
    rate: str | float | None = None
    durability: str | None = None
    dedupe_window: str | float | None = None
    max_size: str | int | None = None
    queue_server: str | tuple[str, ...] | None = None


class Settings(msgspec.Struct, frozen=True):
    """The whole file. Texts such as "5m" are checked here and kept as written; ``units`` turns them into numbers."""

    app: tuple[str, ...] = ()
    queue_servers: dict[str, str] = {}
    server: ServerSettings = ServerSettings()
    manager: ManagerSettings = ManagerSettings()
    queues: dict[str, QueueSettings] = {}
    log_level: str = "info"

    @property
    def url(self) -> str:
        """The first queue server listed, or SettingsError with the ways to name one."""
        if not self.queue_servers:
            raise SettingsError(
                "no queue server: give --redis URL, set QSLOTS_REDIS, call qslots.connect(url), "
                "or list it under queue_servers in the settings file"
            )
        return next(iter(self.queue_servers.values()))

    def with_url(self, url: str) -> "Settings":
        """The same with this URL for the first queue server."""
        first = next(iter(self.queue_servers), "main")
        return msgspec.structs.replace(self, queue_servers=self.queue_servers | {first: url})

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """For each queue that does not live on the first queue server alone: the names of those it lives on."""
        named = {name: queue.queue_server for name, queue in self.queues.items() if queue.queue_server}
        return {name: (place,) if isinstance(place, str) else place for name, place in named.items()}


ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "QSLOTS_APP": ("app",),
    "QSLOTS_REDIS": ("queue_servers",),
    "QSLOTS_SERVER": ("server", "name"),
    "QSLOTS_RESERVE_MEMORY": ("server", "reserve_memory"),
    "QSLOTS_PRIVATE_LIMIT": ("server", "private_limit"),
    "QSLOTS_MAX_SLOTS": ("server", "max_slots"),
    "QSLOTS_GRACEFUL_TIMEOUT": ("server", "graceful_timeout"),
    "QSLOTS_RUNTIME_DIR": ("server", "runtime_dir"),
    "QSLOTS_STATE_DIR": ("server", "state_dir"),
    "QSLOTS_LOG_FILE": ("server", "log_file"),
    "QSLOTS_LOAD_TIMEOUT": ("server", "load_timeout"),
    "QSLOTS_RECYCLE_AFTER_TASKS": ("server", "recycle_after_tasks"),
    "QSLOTS_RECYCLE_AFTER": ("server", "recycle_after"),
    "QSLOTS_INTERVAL": ("manager", "interval"),
    "QSLOTS_LOST_AFTER": ("manager", "lost_after"),
    "QSLOTS_MANAGER_RUNTIME_DIR": ("manager", "runtime_dir"),
    "QSLOTS_LOG_LEVEL": ("log_level",),
}

_LOG_LEVELS = ("debug", "info", "warning", "error")


def _log_level(value: str, path: str) -> None:
    if value.lower() not in _LOG_LEVELS:
        raise ValueError(f"{path}: {value!r} is none of {', '.join(_LOG_LEVELS)}")


_CHECKS: dict[str, typing.Callable[[typing.Any, str], object]] = {
    "reserve_memory": share,
    "private_limit": size,
    "memory": size,
    "graceful_timeout": duration,
    "recycle_after": duration,
    "load_timeout": duration,
    "interval": duration,
    "lost_after": duration,
    "target_delay": duration,
    "lock": duration,
    "rate": rate,
    "dedupe_window": duration,
    "durability": durability.parse,
    "max_size": size,
    "log_level": _log_level,
    "limits": rlimits.parse,
}
_LEAST: dict[str, float] = {
    "min_slots": 0, "max_slots": 0, "lock": 3.0, "interval": 0.05, "load_timeout": 0.1, "priority": 1,
    "recycle_after_tasks": 1, "recycle_after": 1.0, "lost_after": 2.0,
}  # fmt: skip
_MOST: dict[str, float] = {"priority": 100, "interval": 60.0}


def read(
    file: str | None, environ: Mapping[str, str], *, app: tuple[str, ...] = (), redis: str | None = None,
    server: str | None = None,
) -> Settings:  # fmt: skip
    """The settings of a program: ``file`` (or QSLOTS_CONFIG, or the default place), environment, command line."""
    path = used(file, environ)
    document: dict[str, typing.Any] = {}
    if path is not None:
        try:
            document = _document(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings file {path} cannot be read: {error}") from None
    command_line = {"QSLOTS_APP": ",".join(app), "QSLOTS_REDIS": redis or "", "QSLOTS_SERVER": server or ""}
    whole = copy.deepcopy(document)
    for source in (environ, command_line):
        _override(whole, source)
    try:
        return build(whole)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}" if _fault(document) == str(error) else str(error)) from None


def _fault(document: object) -> str:
    """What is wrong with this much of the settings, "" for nothing."""
    try:
        build(document)
    except SettingsError as error:
        return str(error)
    return ""


def used(file: str | None, environ: Mapping[str, str]) -> pathlib.Path | None:
    """The file that ``read`` reads, None if there is none."""
    named = file or environ.get("QSLOTS_CONFIG")
    return pathlib.Path(named) if named else DEFAULT_FILE if DEFAULT_FILE.exists() else None


def build(document: object) -> Settings:
    """Settings from a parsed document; SettingsError with the path of the first thing that does not fit."""
    settings = _struct(Settings, document, "")
    for module in settings.app:
        _check_module(module)
    for name, of_queue in settings.queues.items():
        _check_queue(name, of_queue)
    if settings.server.name is not None:
        check_name(settings.server.name, "server.name")
    for name in settings.queue_servers:
        check_name(name, "queue_servers: the name")
    for queue, places in settings.places.items():
        for place in places:
            if place not in settings.queue_servers:
                raise SettingsError(f"queues.{queue}.queue_server: {place!r} is not listed in queue_servers")
        if len(set(places)) < len(places):
            raise SettingsError(f"queues.{queue}.queue_server: {', '.join(places)}: one is named twice")
    return settings


def _check_module(name: str) -> None:
    """SettingsError with the module that is meant if this is a file or a folder."""
    if "/" in name or name.endswith(".py"):
        steps = [step for step in pathlib.PurePath(name.removesuffix(".py")).parts if step.isidentifier()]
        meant = ".".join(steps[-1:] if name.startswith("/") else steps) or "such as shop.tasks"
        raise SettingsError(
            f"app: {name!r} is a path: write the module's name, {meant}, and start in the folder where it is found"
        )


def _check_queue(name: str, queue: QueueSettings) -> None:
    check_name(name, "queues: the queue name")
    try:
        given.slots(queue.min_slots, queue.max_slots)
    except UsageError as error:
        raise SettingsError(f"queues.{name}: {error}") from None


def _document(text: str, where: str) -> dict[str, typing.Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{where}: the file must be a mapping such as 'app: [shop.tasks]'")
    return document


def _override(document: dict[str, typing.Any], source: Mapping[str, str]) -> None:
    for variable, path in ENVIRONMENT.items():
        text = source.get(variable)
        if not text:
            continue
        value: object = text
        if variable == "QSLOTS_APP":
            value = [name.strip() for name in text.split(",") if name.strip()]
        elif variable == "QSLOTS_REDIS":
            listed = document.get("queue_servers")
            listed = dict(listed) if isinstance(listed, dict) and listed else {"main": ""}
            value = listed | {next(iter(listed)): text}  # the first one; others stay as listed
        elif variable in ("QSLOTS_MAX_SLOTS", "QSLOTS_RECYCLE_AFTER_TASKS") and text.isdecimal():
            value = int(text)
        room = document
        for step in path[:-1]:
            inner = room[step] = {} if room.get(step) is None else room[step]
            if not isinstance(inner, dict):
                raise SettingsError(f"{step}: must be a mapping, not {inner!r}")
            room = inner
        room[path[-1]] = value


_T = typing.TypeVar("_T", bound=msgspec.Struct)


def _struct(kind: type[_T], document: object, path: str) -> _T:
    if not isinstance(document, dict):
        raise SettingsError(f"{path or 'settings'}: must be a mapping, not {document!r}")
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    values = {}
    for key, value in document.items():
        here = f"{path}.{key}" if path else str(key)
        if key not in fields:
            raise SettingsError(f"{here}: no such setting; {given.meant(str(key), fields)}")
        values[key] = _value(fields[key], value, here)
    return kind(**values)


def _value(kind: typing.Any, value: object, path: str) -> object:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind, {} if value is None else value, path)
    if value is None and typing.get_origin(kind) in (dict, tuple):
        return kind()  # a heading with nothing under it
    if kind == dict[str, QueueSettings]:
        if not isinstance(value, dict):
            raise SettingsError(f"{path}: must be a mapping of queue names, not {value!r}")
        return {str(name): _value(QueueSettings, each, f"{path}.{name}") for name, each in value.items()}
    if kind == tuple[str, ...] and isinstance(value, str):
        value = [value]  # one module need not be a list
    try:
        converted: object = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {value!r} does not fit: {error}") from None
    _check_range(path, converted)
    return converted


def _check_range(path: str, value: object) -> None:
    name = path.rpartition(".")[2]
    if value is None:
        return
    if name in _CHECKS:
        try:
            value = _CHECKS[name](value, path)
        except ValueError as error:
            raise SettingsError(str(error)) from None
    if isinstance(value, (int, float)):
        if value < _LEAST.get(name, value):
            raise SettingsError(f"{path}: {value:g} is too small, the least is {_LEAST[name]:g}")
        if value > _MOST.get(name, value):
            raise SettingsError(f"{path}: {value:g} is too large, the most is {_MOST[name]:g}")
