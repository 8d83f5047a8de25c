"""What may be declared, and what is refused with the places and the remedy named."""

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from qslots.errors import ArgumentsError, HandlerError
from qslots.handlers import Registry, declare, overridden
from qslots.options import Options, handler_options, queue_options
from qslots.outcomes import Backoff
from qslots.reports import HandlerDeclared, QueueDeclared
from qslots.settings import QueueSettings
from qslots.tasks import Task


def made(function: Any, name: str | None = None, queue: str | None = None, **options: object) -> Any:
    return declare(function, name, queue, options, Task)


def registered(*declared: Any) -> Registry:
    registry = Registry()
    for handler, of_queue in declared:
        registry.add(handler, of_queue)
    return registry


def resize(photo: str, size: int = 128) -> None:
    """Nothing."""


def crop(photo: str) -> None:
    """Nothing."""


def test_queue_is_named_after_the_function_unless_told_otherwise() -> None:
    assert (made(resize)[0].name, made(resize)[0].queue) == ("resize", "resize")
    assert (made(resize, "small")[0].name, made(resize, "small")[0].queue) == ("small", "small")
    assert (made(resize, None, "pictures")[0].name, made(resize, None, "pictures")[0].queue) == ("resize", "pictures")


def test_name_used_twice_names_both_places_and_the_remedy() -> None:
    with pytest.raises(HandlerError) as error:
        registered(made(resize), made(crop, "resize"))
    places = [f"{__file__}:{each.__code__.co_firstlineno}" for each in (resize, crop)]
    assert all(place in str(error.value) for place in places)
    assert "@task(name=…)" in str(error.value)


def test_same_function_declared_again_is_the_module_loaded_again() -> None:
    assert list(registered(made(resize), made(resize)).handlers) == ["resize"]


def test_options_of_a_queue_that_disagree_name_both_places_and_change_nothing() -> None:
    registry = registered(made(resize, None, "p", priority=80))
    with pytest.raises(HandlerError, match=r"queue p: priority is 80 at .* and 20 at .*must agree") as error:
        registry.add(*made(crop, None, "p", priority=20))
    assert f"{__file__}:{crop.__code__.co_firstlineno}" in str(error.value)
    assert list(registry.handlers) == ["resize"]
    registry.add(*made(crop, None, "p", priority=80, min_slots=2))
    assert registry.declared({}).queues == (
        QueueDeclared("p", 80, 2, handlers=(HandlerDeclared("resize", 100), HandlerDeclared("crop", 100))),
    )


def test_least_and_most_slots_of_a_queue_that_contradict_each_other_name_both_places() -> None:
    registry = registered(made(resize, None, "p", min_slots=4), made(crop, None, "q", max_slots=2))
    with pytest.raises(HandlerError, match=r"^queue p: min_slots is 4 and max_slots 2: .* \(.*, .*\)$"):
        registry.add(*made(crop, None, "p", max_slots=2))
    assert registry.queue("p") == QueueDeclared("p", min_slots=4, handlers=(HandlerDeclared("resize", 100),))


def test_what_needs_no_object_of_a_class_may_stand_in_one() -> None:
    def within(photo: str) -> None: ...

    assert [made(each)[0].name for each in (within, Mailer.count)] == ["within", "count"]


def test_handlers_of_a_queue_are_those_declared_for_it() -> None:
    registry = registered(made(resize, None, "p"), made(crop))
    assert [handler.name for handler in registry.of_queue("p")] == ["resize"]
    assert registry.of_queue("none") == []


def variadic(*args: int) -> None: ...
def variadic_names(**kwargs: int) -> None: ...
def positional(a: int, /) -> None: ...
def unknown_type(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def generator(a: int) -> Iterator[int]:
    yield a


class Mailer:
    def send(self, to: str) -> None: ...
    @staticmethod
    def count(to: str) -> None: ...


async def asynchronous(a: int) -> None: ...
async def async_generator(a: int) -> AsyncIterator[int]:
    yield a


async def async_pack(tasks: list[Task]) -> None: ...


@pytest.mark.parametrize(("function", "message"), [
    (variadic, "*args: int is not served: name each parameter, or take list[Task]"),
    (variadic_names, "**kwargs: int is not served"),
    (positional, "a: int stands before a /, and arguments are stored by name: take the / out"),
    (Mailer.send, "send is a method, and no slot has an object to call it on: use a function of the module"),
    (unknown_type, "the parameters of unknown_type cannot be checked: name 'Nowhere' is not defined"),
    (generator, "a handler is no generator"),
    (async_generator, "a handler is no generator"),
    (lambda: None, "the handler name '<lambda>'"),
])  # fmt: skip
def test_function_that_cannot_be_served_is_refused_at_its_place(function: Any, message: str) -> None:
    with pytest.raises(HandlerError) as error:
        made(function)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{__file__}:{function.__code__.co_firstlineno}: ")


@pytest.mark.parametrize(("options", "message"), [
    ({"priorty": 5}, "@task does not know the option 'priorty': did you mean priority?"),
    ({"time_limt": "5s"}, "@task does not know the option 'time_limt': did you mean time_limit?"),
    ({"timeout": "5s"}, "@task does not know the option 'timeout': did you mean time_limit?"),
    ({"countdown": 5}, "@task does not know the option 'countdown': did you mean HANDLER.using(delay=…)?"),
    ({"zzz": 1}, "@task does not know the option 'zzz': known here: alert_after, backoff, batch"),
    ({"min_slots": 10**20}, "min_slots is 100000000000000000000: write 999,999,999 at most"),
    ({"min_slots": 4, "max_slots": 2}, "min_slots is 4 and max_slots 2: the least must not be above the most"),
    ({"priority": 0}, "priority is 0: write a whole number, 1 to 100"),
    ({"priority": True}, "priority is True"),
    ({"min_slots": -1}, "min_slots is -1: write a whole number, 0 or more"),
    ({"max_slots": 1.5}, "max_slots is 1.5"),
    ({"target_delay": "soon"}, "target_delay is 'soon'"),
    ({"lock": "0.5s"}, "lock is '0.5s': at least 3 s"),
    ({"memory": "lots"}, "memory is 'lots'"),
    ({"concurrency": 0}, "concurrency is 0: write a whole number, 1 to 1000"),
    ({"concurrency": 5}, "resize has a concurrency, which only an async handler of single tasks can have"),
    ({"batch": 0}, "batch is 0: write a whole number, 1 to 1000"),
    ({"batch": 1001}, "batch is 1001"),
    ({"time_limit": 0}, "time_limit is 0: at least 0.001 s"),
    ({"time_limit": "40000d"}, "time_limit is '40000d': at most 36500d"),
    ({"max_failures": 0}, "max_failures is 0"),
    ({"max_crashes": "3"}, "max_crashes is '3'"),
    ({"soft_time_limit": 0}, "soft_time_limit is 0: at least 0.001 s"),
    ({"soft_time_limit": "5m", "time_limit": "5m"}, "soft_time_limit is 300 s, time_limit 300 s: the soft one must be"),
    ({"soft_time_limit": 61, "time_limit": "1m"}, "soft_time_limit is 61 s, time_limit 60 s: the soft one must be"),
    ({"alert_after": "soon"}, "alert_after is 'soon'"),
    ({"on_alert": "print"}, "on_alert is 'print': write a plain function (task_id, seconds)"),
    ({"on_alert": crop}, "on_alert is crop(photo: str) -> None: too many positional arguments; write a plain function"),
    ({"backoff": "5s"}, "backoff is '5s': write two durations"),
    ({"backoff": "15m..5s"}, "backoff is '15m..5s'"),
    ({"never_retry": "KeyError"}, "never_retry is 'KeyError': write exception classes"),
])  # fmt: skip
def test_bad_option_is_refused_at_the_place_of_the_handler(options: dict[str, object], message: str) -> None:
    with pytest.raises(HandlerError) as error:
        made(resize, **options)
    assert str(error.value).startswith(f"{__file__}:{resize.__code__.co_firstlineno}: {message}")


def test_async_handlers_are_known_and_so_is_how_many_of_their_tasks_run_at_a_time() -> None:
    for options, beside in (({}, 100), ({"concurrency": 7}, 7), ({"batch": 3, "concurrency": 7}, 3)):
        handler, _ = made(asynchronous, **options)
        assert (handler.is_async, handler.beside) == (True, beside)
    assert [(each.is_async, each.beside) for each in (made(async_pack)[0], made(resize)[0])] == [(True, 1), (False, 1)]
    with pytest.raises(HandlerError, match="async_pack has a concurrency"):
        made(async_pack, concurrency=5)


def test_options_become_numbers() -> None:
    options = {
        "batch": 7, "time_limit": "5m", "max_failures": 2, "max_crashes": 1, "backoff": "1s..1m",
        "never_retry": KeyError, "soft_time_limit": "4m", "alert_after": "1m", "on_alert": print,
    }  # fmt: skip
    assert handler_options(options, "") == Options(
        7, 300.0, 2, 1, Backoff(1.0, 60.0), (KeyError,), None, 240.0, 60.0, print
    )  # fmt: skip
    assert handler_options({"time_limit": None}, "") == Options()
    assert queue_options({"lock": "2m", "memory": "1M", "max_slots": None}, "") == {
        "lock": 120.0, "memory": 1 << 20, "max_slots": None,
    }  # fmt: skip


def test_settings_file_overrides_the_declaration_and_is_checked_like_it() -> None:
    declared = QueueDeclared("p", priority=20, min_slots=1)
    override = QueueSettings(min_slots=4, lock="2m", queue_server="main")
    assert overridden(declared, override) == QueueDeclared("p", 20, 4, lock=120.0)
    assert overridden(declared, None) is declared
    with pytest.raises(HandlerError, match=r"queues\.p: lock is '0s'"):
        overridden(declared, QueueSettings(lock="0s"))


def call(function: Any, *args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """Arguments as they arrive in the handler."""
    arguments = made(function)[0].arguments
    found: tuple[tuple[object, ...], dict[str, object]] = arguments.call(arguments.body(args, kwargs))
    return found


def mixed(a: int, b: str = "x", *, c: float, d: list[int] = [1]) -> None:  # noqa: B006
    """Nothing."""


def test_positional_named_and_keyword_only_arguments_arrive_with_their_defaults() -> None:
    assert call(mixed, 1, c=2.0) == ((1, "x"), {"c": 2.0, "d": [1]})
    assert call(mixed, b="y", a=1, c=2, d=[]) == ((1, "y"), {"c": 2.0, "d": []})
    first, second = call(mixed, 1, c=2.0)[1]["d"], call(mixed, 1, c=2.0)[1]["d"]
    assert first is not second


@dataclasses.dataclass
class Photo:
    name: str
    sizes: list[int]


def show(photo: Photo, tags: dict[str, int] | None = None) -> None:
    """Nothing."""


def anything(value, other=None) -> None:  # type: ignore[no-untyped-def]
    """Nothing."""


def test_structured_arguments_arrive_as_what_is_annotated() -> None:
    assert call(show, Photo("a", [1, 2]), tags={"x": 1}) == ((Photo("a", [1, 2]), {"x": 1}), {})
    assert call(anything, {"a": [1, None]}) == (({"a": [1, None]}, None), {})


@pytest.mark.parametrize(("function", "args", "kwargs", "message"), [
    (resize, ("a", "large"), {}, "argument size: Expected `int`, got `str`"),
    (resize, (5,), {}, "argument photo: Expected `str`, got `int`"),
    (resize, (), {}, "photo"),
    (resize, ("a",), {"siez": 1}, "siez"),
    (resize, ("a", 1, 2), {}, "takes 2 positional arguments, 3 were given"),
    (resize, ("a",), {"photo": "b"}, "argument photo is given twice"),
    (mixed, (1, "b", 2.0), {}, "takes 2 positional arguments, 3 were given"),
    (show, (Photo("a", [1, "2"]),), {}, "argument photo.sizes[1]: Expected `int`, got `str`"),  # type: ignore[list-item]
    (anything, (object(),), {}, "cannot be stored"),
    (anything, (1 << 70,), {}, "cannot be stored"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_with_the_path_of_the_field(
    function: Any, args: tuple[object, ...], kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentsError) as error:
        call(function, *args, **kwargs)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_arguments_without_an_end_are_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ArgumentsError, match="cannot be stored"):
        call(anything, endless)


def test_misfit_names_handler_queue_and_place() -> None:
    handler = made(resize, None, "pictures")[0]
    assert str(handler.misfit(ArgumentsError("bad"))) == f"task resize (queue pictures, {handler.where}): bad"


def pack(tasks: list[Task]) -> None: ...


def test_handler_of_list_of_tasks_takes_packs_and_any_arguments() -> None:
    arguments = made(pack)[0].arguments
    assert arguments.takes_pack
    stored = arguments.decode(arguments.body((1, "a"), {"b": None}))
    assert (stored.args, stored.kwargs) == ((1, "a"), {"b": None})
    assert not made(resize)[0].arguments.takes_pack


@pytest.mark.parametrize("stored", [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"\xff" * 9, msgspec.msgpack.encode(5)])
def test_stored_garbage_is_an_arguments_error(stored: bytes) -> None:
    with pytest.raises(ArgumentsError):
        made(resize)[0].arguments.decode(stored)


def test_signature_changes_with_the_parameters_only() -> None:
    first, second = made(resize)[0].arguments.signature, made(resize, "other")[0].arguments.signature
    assert first == second != made(crop)[0].arguments.signature
