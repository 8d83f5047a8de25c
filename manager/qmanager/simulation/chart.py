"""The chart of a simulation: per queue slots, delay and backlog over time, the policies beside each other.

One SVG picture without scripts, fonts or anything else from outside; lines differ by dashes, so that they can be told
apart in black and white.
"""

import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from qslots.errors import Error

from .load import Load
from .measures import Curves
from .play import Outcome
from .server import Size
from .text import seconds

WIDTH, HEIGHT = 300, 96  # of a panel's inside
LEFT, RIGHT, ABOVE, BELOW = 52, 14, 24, 34  # around it
HEAD, MARGIN = 64, 90  # above all panels; left of them, for the queue's name
STYLES = (("#1f3a93", 2.0, ""), ("#c0562a", 1.3, "7 3"), ("#3a7d44", 1.3, "2 2"))  # colour, width, dashes
HOUR = 3600.0
SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)
STEPS = (*SECONDS, *(HOUR * each for each in (1, 2, 3, 6, 12)))  # s between two times below a panel
KINDS = (".html", ".svg", ".png")
Points = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Panel:
    """One kind of curve."""

    title: str
    points: Callable[[Curves], Points]
    floor: float | None  # of a logarithmic scale: what is drawn at the bottom as 0; None: a linear scale


PANELS = (
    _Panel("slots", lambda curves: curves.slots, None),
    _Panel("p95 delay of tasks beginning then, s (log)", lambda curves: curves.delay, 0.001),
    _Panel("waiting tasks (log)", lambda curves: curves.backlog, 0.1),
)


def write(path: pathlib.Path, load: Load, size: Size, seed: int, outcomes: Sequence[Outcome]) -> None:
    """The chart as a file of the kind that its name says. Error if it cannot be written."""
    try:
        if path.suffix == ".png":
            path.write_bytes(png(svg(load, size, seed, outcomes)))
        else:
            drawn = html if path.suffix == ".html" else svg
            path.write_text(drawn(load, size, seed, outcomes), encoding="utf-8")
    except OSError as error:
        raise Error(f"the chart cannot be written: {error}") from None


def png(picture: str) -> bytes:
    """A picture in pixels, by a library that is an extra of ours."""
    try:
        from cairosvg import svg2png
    except (ImportError, OSError) as error:  # the second: without libcairo
        raise Error(f"a .png needs more: pip install 'qslots[chart]', or write .html or .svg ({error})") from None
    found: bytes = svg2png(bytestring=picture.encode(), scale=2)
    return found


def html(load: Load, size: Size, seed: int, outcomes: Sequence[Outcome]) -> str:
    """A page with the figures that matter most and the picture."""
    rows = "".join(
        f"<tr><td>{escape(each.policy)}</td><td>{seconds(each.figures.urgent(load.urgent))}</td>"
        f"<td>{each.figures.slots_mean:.1f}</td><td>{each.figures.moved_mean:.2%}</td><td>{escape(each.note)}</td></tr>\n"
        for each in outcomes
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><title>{escape(_title(load, size, seed))}</title>
<style>body {{ font: 14px sans-serif; margin: 2em; }} td, th {{ padding: 0 1em 0 0; text-align: left; }}
svg {{ max-width: 100%; height: auto; }}</style></head>
<body>
<table><tr><th>policy</th><th>urgent p99</th><th>slots, mean</th><th>moved a cycle</th><th>how it was set</th></tr>
{rows}</table>
{svg(load, size, seed, outcomes)}
</body></html>
"""


def svg(load: Load, size: Size, seed: int, outcomes: Sequence[Outcome]) -> str:
    """The picture alone."""
    across, down = LEFT + WIDTH + RIGHT, ABOVE + HEIGHT + BELOW
    width, height = MARGIN + across * len(PANELS), HEAD + down * len(load.queues)
    extent = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {extent} font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(8, 20, _title(load, size, seed), size=15),
        *_legend(outcomes),
    ]
    for row, queue in enumerate(load.queues):
        top = HEAD + row * down + ABOVE
        parts.append(_text(8, top + HEIGHT / 2, queue.name, size=13))
        parts.append(_text(8, top + HEIGHT / 2 + 15, f"priority {queue.declared.priority}"))
        for column, panel in enumerate(PANELS):
            curves = [panel.points(each.figures.curves[queue.name]) for each in outcomes]
            parts += _panel(panel, curves, load.duration, (MARGIN + column * across + LEFT, top))
    return "\n".join([*parts, "</svg>"])


def _title(load: Load, size: Size, seed: int) -> str:
    return f"{load.name}: {size.servers} servers of {size.slots} slots, {load.duration:g} s, seed {seed}"


def _legend(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for place, (each, style) in enumerate(zip(outcomes, STYLES, strict=False)):
        x = MARGIN + LEFT + place * 150
        yield _line([(x, 42), (x + 40, 42)], style)
        yield _text(x + 48, 46, each.policy, size=12)


def _panel(panel: _Panel, curves: Sequence[Points], duration: float, at: tuple[float, float]) -> Iterator[str]:
    x, y = at
    ticks = _ticks(max((value for curve in curves for value in curve if value is not None), default=0.0), panel.floor)

    def height(value: float) -> float:
        return y + HEIGHT * (1 - _part(value, ticks[-1], panel.floor))

    yield _text(x, y - 8, panel.title)
    for tick in ticks:
        yield f'<line x1="{x}" y1="{height(tick):.1f}" x2="{x + WIDTH}" y2="{height(tick):.1f}" stroke="#ccc"/>'
        yield _text(x - 6, height(tick) + 4, f"{tick:g}", anchor="end")
    yield f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#666"/>'
    unit, name = (HOUR, "h") if duration >= 3 * HOUR else (60.0, "min") if duration >= 180 else (1.0, "s")
    for tick in times(duration):
        yield _text(x + WIDTH * tick / duration, y + HEIGHT + 14, f"{tick / unit:g}", anchor="middle")
    yield _text(x + WIDTH / 2, y + HEIGHT + 26, f"time, {name}", anchor="middle")
    for curve, style in reversed([*zip(curves, STYLES, strict=False)]):
        step = WIDTH / len(curve)
        for run in _runs(curve):
            yield _line([(x + (place + 0.5) * step, height(value)) for place, value in run], style)


def _runs(curve: Points) -> Iterator[list[tuple[int, float]]]:
    """Stretches without a gap, each point with its place."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(curve):
        if value is not None:
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _ticks(highest: float, floor: float | None) -> list[float]:
    """Round numbers from 0 to the highest or above it; on a logarithmic scale powers of ten, not all if many."""
    if floor is not None:
        decades = max(1, math.ceil(math.log10(max(highest, floor) / floor) - 1e-9))
        every = 1 + (decades - 1) // 4
        return [0.0, *(float(f"{floor * 10.0**each:.3g}") for each in range(every, decades + every, every))]
    size = 10.0 ** math.floor(math.log10(max(highest, 1.0)))
    step = next(each for each in (size / 4, size / 2, size, size * 2.5) if each * 4 >= highest)
    return [step * each for each in range(math.ceil(max(highest, 1.0) / step - 1e-9) + 1)]


def times(duration: float) -> list[float]:
    """Round times from 0 on, seconds: seven at most."""
    days = math.ceil(duration / 6 / (24 * HOUR))
    step = next((each for each in STEPS if duration / each <= 6), days * 24 * HOUR)
    return [each * step for each in range(int(duration / step + 1e-9) + 1)]


def _part(value: float, highest: float, floor: float | None) -> float:
    """How far up a value stands, 0 to 1."""
    if floor is None:
        return value / highest
    return max(0.0, math.log10(max(value, floor) / floor) / math.log10(highest / floor))


def _line(points: Sequence[tuple[float, float]], style: tuple[str, float, str]) -> str:
    colour, width, dashes = style
    if len(points) == 1:  # a lone point would not be seen
        points = [(points[0][0] - 1, points[0][1]), (points[0][0] + 1, points[0][1])]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
