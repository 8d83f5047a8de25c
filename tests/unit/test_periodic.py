"""When ticks are: multiples of an interval, expressions over DST, leap days and year ends; and what is refused."""

import datetime
import functools
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from qslots import HandlerError, Task, periodic, task
from qslots.handlers import REGISTRY
from qslots.periodic import expression, first, following, latest, tick_id, words
from qslots.reports import HandlerDeclared, Periodic

DAY = 86400
YEARS = st.integers(1_577_836_800, 1_893_456_000)  # 2020 to 2030
EXPRESSIONS = (
    "* * * * *", "*/10 * * * *", "30 * * * *", "*/15 2 * * *", "30 2 * * *", "0,30 1-3 * * *", "0 0 * * *",
    "15 */2 * * *", "59 23 31 12 *", "0 0 29 2 *", "0 12 L * *", "0 9 * * MON#1", "0 0 1,15 * 5", "0 */6 * * *",
    "*/7 * * * * *", "0 30 2 * * *",
)  # fmt: skip
# Not Australia/Lord_Howe: where clocks are changed by half an hour cronsim passes over some of "0 */6 * * *".
ZONES = ("UTC", "Europe/Moscow", "Europe/Berlin", "America/New_York", "America/Havana", "Africa/Casablanca",
         "Asia/Kathmandu", "America/St_Johns")  # fmt: skip
SCHEDULES = st.one_of(
    st.builds(lambda every: Periodic(every=every), st.integers(1, 40 * DAY)),
    st.builds(lambda cron, tz: Periodic(cron=cron, tz=tz), st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES)),
)


def at(text: str, tz: str = "UTC", fold: int = 0) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(tz), fold=fold).timestamp())


def cron(text: str, tz: str = "UTC") -> Periodic:
    return Periodic(cron=text, tz=tz)


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(("schedule", "after", "wanted"), [
    (Periodic(every=600), "2026-11-22T03:00:00", ["2026-11-22T03:10:00", "2026-11-22T03:20:00"]),
    (Periodic(every=600), "2026-11-22T03:09:59", ["2026-11-22T03:10:00"]),
    (Periodic(every=7), "1970-01-01T00:00:15", ["1970-01-01T00:00:21", "1970-01-01T00:00:28"]),
    (Periodic(every=7 * DAY), "1970-01-05T00:00:00", ["1970-01-08T00:00:00", "1970-01-15T00:00:00"]),
    (Periodic(every=13 * 3600), "1970-01-02T00:00:00", ["1970-01-02T02:00:00", "1970-01-02T15:00:00"]),
    (cron("0 3 * * *"), "2026-12-31T03:00:00", ["2027-01-01T03:00:00"]),
    (cron("59 23 31 12 *"), "2026-06-01T00:00:00", ["2026-12-31T23:59:00", "2027-12-31T23:59:00"]),
    (cron("0 0 29 2 *"), "2096-02-29T00:00:00", ["2104-02-29T00:00:00"]),  # 2100 is no leap year
    (cron("0 0 29 2 *"), "2025-01-01T00:00:00", ["2028-02-29T00:00:00"]),
    (cron("0 0 L * *"), "2028-02-01T00:00:00", ["2028-02-29T00:00:00", "2028-03-31T00:00:00"]),
    (cron("*/20 * * * * *"), "2026-11-22T03:00:00", ["2026-11-22T03:00:20", "2026-11-22T03:00:40"]),
])  # fmt: skip
def test_instants_after(schedule: Periodic, after: str, wanted: list[str]) -> None:
    assert first(schedule, at(after), at(wanted[-1]), 9) == [at(each) for each in wanted]


# In Berlin the clocks skip 02:00 to 03:00 on March 29 2026 (01:00 UTC), and show it twice on October 25 (from 00:00).
@pytest.mark.parametrize(("expression", "day", "utc"), [
    ("30 2 * * *", "2026-03-29", ["01:00"]),  # skipped: comes as soon as the clocks have
    ("30 2 * * *", "2026-10-25", ["00:30"]),  # shown twice: the first time
    ("0 3 * * *", "2026-03-29", ["01:00"]),
    ("0 3 * * *", "2026-10-25", ["02:00"]),
    ("0,30 2 * * *", "2026-03-29", ["01:00"]),  # two that fall together are one
    ("30 1-3 * * *", "2026-10-25", ["-00:30", "00:30", "02:30"]),
    ("*/30 2 * * *", "2026-03-29", []),  # with * the time that passes counts
    ("*/30 2 * * *", "2026-10-25", ["00:00", "00:30", "01:00", "01:30"]),
])  # fmt: skip
def test_instants_where_clocks_are_changed(expression: str, day: str, utc: list[str]) -> None:
    midnight = at(f"{day}T00:00:00")
    wanted = [midnight - 1800 if each[0] == "-" else at(f"{day}T{each}:00") for each in utc]
    assert first(cron(expression, BERLIN), midnight - 3600, midnight + 4 * 3600, 99) == wanted


@examples(50)
@given(SCHEDULES, YEARS, st.integers(0, 90 * DAY), st.integers(0, 90 * DAY))
def test_it_does_not_matter_where_one_begins(schedule: Periodic, begin: int, more: int, other: int) -> None:
    middle, end = sorted((begin + more, begin + other))
    whole = first(schedule, begin, end, 500)
    if len(whole) == 500:
        end, middle = whole[-1], min(middle, whole[-1])
    assert first(schedule, begin, middle, 999) + first(schedule, middle, end, 999) == whole
    assert all(begin < instant <= end for instant in whole) and whole == sorted(set(whole))
    assert latest(schedule, begin, end) == (whole[-1] if whole else None)
    if whole:
        assert following(schedule, begin) == whole[0]


@functools.cache
def changes(tz: str) -> list[int]:
    """When the clocks of a zone are changed in 2026."""
    zone, start = zoneinfo.ZoneInfo(tz), at("2026-01-01T00:00:00")
    hours = [start + 3600 * hour for hour in range(365 * 24)]
    offsets = [datetime.datetime.fromtimestamp(hour, zone).utcoffset() for hour in hours]
    return [hours[n] for n in range(1, len(hours)) if offsets[n] != offsets[n - 1]]


@examples(25)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES), st.integers(-DAY // 24, DAY // 24))
def test_it_does_not_matter_where_one_begins_near_a_change_of_clocks(expression: str, tz: str, off: int) -> None:
    schedule = cron(expression, tz)
    for change in changes(tz):
        begin, middle, end = change - DAY // 12, change + off, change + DAY // 8
        whole = first(schedule, begin, end, 99999)
        assert first(schedule, begin, middle, 99999) + first(schedule, middle, end, 99999) == whole


def test_latest_does_not_count_up() -> None:
    assert latest(Periodic(every=1), 0, 1_800_000_000) == 1_800_000_000
    assert latest(cron("* * * 1 1 *"), at("2024-01-01T00:00:00"), at("2025-12-24T00:00:00")) == at(
        "2025-01-01T23:59:59"
    )
    assert latest(cron("0 3 * * *"), 0, 3 * 3600 - 1) is None
    assert latest(cron("0 3 * * *"), 7, 7) is None


@pytest.mark.parametrize(("schedule", "text"), [
    (Periodic(every=600), "every 10m"), (Periodic(every=90), "every 90s"), (Periodic(every=7 * DAY), "every 7d"),
    (Periodic(every=5400), "every 90m"), (cron("0 3 * * *", BERLIN), "0 3 * * * Europe/Berlin"),
])  # fmt: skip
def test_schedule_in_words(schedule: Periodic, text: str) -> None:
    assert words(schedule) == text


def test_id_of_a_tick_can_be_read() -> None:
    assert tick_id("report", at("2026-11-22T03:00:00")) == "report@2026-11-22T03:00:00Z"


def free(n: int = 1) -> None: ...


def pack(tasks: list[Task]) -> None: ...


def bound(n: int, m: int = 1) -> None: ...


@pytest.mark.parametrize(("options", "why"), [
    ({"every": "10m", "cron": "0 3 * * *"}, "every and cron are both given: leave one out"),
    ({"every": "250ms"}, r"every is '250ms': write whole seconds, 1s or more"),
    ({"every": "soon"}, "every is 'soon'"),
    ({"every": True}, "every is True"),
    ({"cron": "61 * * * *"}, r"cron is '61 \* \* \* \*': bad minute: write minute, hour"),
    ({"cron": "daily"}, "cron is 'daily': wrong number of fields"),
    ({"cron": "@reboot"}, "cron is '@reboot': .*: write minute, hour"),
    ({"cron": 5}, "cron is 5"),
    ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
    ({"cron": "* * */20 * 1L"}, "there is no such day"),
    ({"cron": "0 3 * * *", "tz": "Europe/Moskow"}, "tz is 'Europe/Moskow': .* did you mean Europe/Moscow"),
    ({"cron": "0 3 * * *", "tz": "Europe"}, "no such time zone"),
    ({"cron": "0 3 * * *", "tz": None}, "tz is None: write the name of a time zone"),
    ({"every": "1d", "tz": "Europe/Moscow"}, "use cron for local time"),
    ({"every": "1d", "catch_up": "never"}, "catch_up is 'never': write one of once, skip, all"),
    ({"every": "1d", "overlap": 0}, "overlap is 0: write True or False"),
    ({"every": "1d", "overlap": False, "catch_up": "all"}, "leave one out"),
    ({"overlap": False}, "overlap is for periodic handlers: say when"),
    ({"tz": "Europe/Moscow"}, "tz is for periodic handlers"),
])  # fmt: skip
def test_what_cannot_be_served_is_refused_at_import_on_one_line(options: dict[str, object], why: str) -> None:
    with pytest.raises(HandlerError, match=why) as error:
        task(name="periodic_refused", **options)(free)
    assert "\n" not in str(error.value)
    assert __file__ in str(error.value)


@pytest.mark.parametrize(("short", "means"), [
    ("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@weekly", "0 0 * * 0"), (" @monthly ", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
])  # fmt: skip
def test_well_known_words_for_expressions_are_taken(short: str, means: str) -> None:
    assert expression(short, "cron") == means


def test_handler_that_cannot_be_called_without_arguments_is_refused() -> None:
    with pytest.raises(HandlerError, match="called without arguments: give n a default"):
        task(every="1m", name="periodic_bound")(bound)


@pytest.mark.parametrize("function", [free, pack])
def test_declaration_says_what_the_manager_needs(function: object) -> None:
    name = f"periodic_{function.__name__}"  # type: ignore[attr-defined]
    made = task(name=name, cron=" 0  3 * * 1 ", tz="Europe/Moscow", catch_up="skip", overlap=False)(function)  # type: ignore[call-overload]
    try:
        declared = REGISTRY.queue(name).handlers
        signature = made.handler.arguments.signature
        wanted = Periodic(None, "0 3 * * 1", "Europe/Moscow", "skip", False, signature)
        assert declared == (HandlerDeclared(name, 100, None, wanted),)
        assert made.handler.arguments.call(b"\x80") in [((1,), {}), ((), {})]
    finally:
        del REGISTRY.handlers[name]
        REGISTRY._queues.clear()


def test_handler_without_a_schedule_is_not_periodic() -> None:
    assert periodic.declared(Periodic(), ["n"]) is None
