"""Durations, moments, spans, sizes and shares as people write them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslots.units import LONGEST, counted, duration, moment, portion, share, size, span


@pytest.mark.parametrize(("text", "seconds"), [
    (5, 5.0), (0.25, 0.25), (0, 0.0), ("90", 90.0), ("250ms", 0.25), ("100us", 1e-4), ("90s", 90.0), ("5m", 300.0),
    ("2h", 7200.0), ("1d", 86400.0), ("1w", 604800.0), (" 1.5 h ", 5400.0), ("36500d", LONGEST),
])  # fmt: skip
def test_duration_is_seconds(text: str | float, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("bad", [
    "", "s", "5x", "-1s", "1h30m", "1,5s", "5 S", True, None, -1, float("nan"), float("inf"), "9" * 400, "36501d", [5],
])  # fmt: skip
def test_duration_that_is_none_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match="backoff is "):
        duration(bad, "backoff")  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "pair"), [("5s..15m", (5, 900)), ("0..0", (0, 0)), ("1 s .. 1 m", (1, 60))])
def test_span_is_two_durations(text: str, pair: tuple[float, float]) -> None:
    assert span(text) == pair


@pytest.mark.parametrize("bad", ["5s", "5s..", "..5s", "2m..1m", "5s...15m", 5, None])
def test_span_that_is_none_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match="backoff is "):
        span(bad, "backoff")  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "count"), [
    (0, 0), (4096, 4096), ("1", 1), ("10B", 10), ("512K", 524288), ("512k", 524288),
    ("10kB", 10240), ("2g", 2 << 30), ("256M", 268435456), ("1.5G", 1610612736),
    ("1T", 1 << 40), ("256MiB", 268435456), ("256MB", 268435456), (" 2 G ", 2 << 30),
])  # fmt: skip
def test_size_is_bytes(text: str | int, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("bad", ["", "M", "5X", "-1M", "1 2M", True, 1.5, None, -1, "10%"])
def test_size_that_is_none_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match="memory is "):
        size(bad, "memory")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "pair"), [("10%", (0.1, 0)), ("0 %", (0, 0)), ("100%", (1, 0)), ("2G", (0, 2 << 30)), (7, (0, 7))]
)
def test_share_is_a_part_or_an_amount(text: str | int, pair: tuple[float, int]) -> None:
    assert share(text) == pair


@pytest.mark.parametrize("bad", ["%", "101%", "-1%", "ten%", None, 0.5])
def test_share_that_is_none_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match="reserve is "):
        share(bad, "reserve")  # type: ignore[arg-type]


def test_moment_is_unix_time() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert moment(1.5) == 1.5
    assert moment(0) == 0
    assert moment(datetime.datetime(1970, 1, 1, 3, tzinfo=zone)) == 3600


@pytest.mark.parametrize("bad", [
    datetime.datetime(2030, 1, 1), datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC), -1, True, "tomorrow", None,
    float("nan"), float("inf"), 1e12,
])  # fmt: skip
def test_moment_that_is_none_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match="at is "):
        moment(bad)  # type: ignore[arg-type]


@given(st.text(max_size=8) | st.floats() | st.integers() | st.none() | st.booleans())
def test_anything_else_is_a_value_error_and_never_another(value: object) -> None:
    for read in (duration, size, share, span, moment):
        try:
            found = read(value)  # type: ignore[operator]
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert min(found if isinstance(found, tuple) else (found,)) >= 0


def test_one_is_not_many() -> None:
    assert [counted(count, "slot") for count in (0, 1, 2, 2000)] == ["0 slots", "1 slot", "2 slots", "2,000 slots"]


def test_a_portion_is_a_part_or_an_amount() -> None:
    assert portion(share("10%"), 1_000) == 100
    assert portion(share(300), 1_000) == 300
