"""``qmanager simulate``: the command line of the simulation. It asks no queue server and changes nothing."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem

from qslots import terminal, units
from qslots.errors import Error, UsageError
from qslots.settings import read

from .admin.command import as_document, json_option
from .simulation import chart, text
from .simulation.load import WARM_UP, Load
from .simulation.loadfile import load_of
from .simulation.play import RUNS, simulated
from .simulation.scenarios import HOUR, SCENARIOS
from .simulation.server import Size

LONGEST = 30 * 86400.0  # s
PROGRESS = 10.0  # simulated seconds between two steps of the progress bar


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = [CompletionItem(name) for name in SCENARIOS if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def _lasting(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = units.duration(value)
    except UsageError:
        seconds = 0.0
    if not 1 <= seconds <= LONGEST:
        raise click.BadParameter(f"{value!r}: write 1s to 30d, such as 90s, 20m or 24h")
    return seconds


def _picture(_: click.Context, __: click.Parameter, value: str | None) -> pathlib.Path | None:
    if value is not None and pathlib.Path(value).suffix not in chart.KINDS:
        raise click.BadParameter(f"{value!r}: write a name that ends in {', '.join(chart.KINDS)}")
    return None if value is None else pathlib.Path(value)


@click.command()
@click.argument("load", metavar="SCENARIO|FILE.csv", shell_complete=_complete)
@click.option("--servers", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Servers of the fleet.")
@click.option("--slots", type=click.IntRange(1, 4096), default=20, show_default=True, help="Slots of each server.")
@click.option("--duration", callback=_lasting, metavar="TIME", help="How long: 1h; of a file as long as it says.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another one draws other tasks.")
@click.option("--chart", "picture", callback=_picture, metavar="FILE", help="Draw curves: .html, .svg or .png.")
@click.option("--compare/--no-compare", default=True, help="Beside a static division and an autoscaler by backlog.")
@click.option("-c", "file", metavar="FILE", help="Settings file, for queues and manager; QSLOTS_CONFIG by default.")
@json_option
def simulate(
    load: str, servers: int, slots: int, duration: float | None, seed: int, picture: pathlib.Path | None, *,
    compare: bool, file: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Play a load in simulated time through the manager's planner, without a queue server.

    SCENARIO is steady, tenfold, night, sick, losses or wave. FILE.csv has the columns time, queue, arrivals and
    service_time: docs/simulation.md.
    """
    try:
        settings = read(file, os.environ)
        manager = settings.manager
        size = Size(servers, slots, units.duration(manager.interval), units.duration(manager.lost_after))
        if load in SCENARIOS:
            played = SCENARIOS[load](size, duration or HOUR)
        elif load.endswith(".csv"):
            played = load_of(pathlib.Path(load), settings.queues, duration)
        else:
            raise click.BadParameter(f"no scenario {load!r}: write {', '.join(SCENARIOS)} or a FILE.csv")
        with _progress(played, RUNS if compare else 1) as tick:
            outcomes = list(simulated(played, size, seed=seed, compare=compare, tick=tick))
        if picture is not None:
            chart.write(picture, played, size, seed, outcomes)
        if as_json:
            click.echo(as_document(text.document(played, size, seed, outcomes)))
        else:
            terminal.printed(lambda _: text.table(played, size, outcomes))
    except Error as error:
        click.echo(f"qmanager: {error}", err=True)
        sys.exit(1)


@contextlib.contextmanager
def _progress(load: Load, runs: int) -> Iterator[Callable[[float], None]]:
    """Simulated time on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    shown = 0.0
    total = (load.duration + WARM_UP) * runs
    with click.progressbar(length=int(total), label=f"playing {load.name}", file=sys.stderr) as bar:

        def tick(now: float) -> None:
            nonlocal shown
            if now < shown:
                shown = -WARM_UP  # the next run
            if now - shown >= PROGRESS:
                bar.update(int(now - shown))
                shown += int(now - shown)

        shown = -WARM_UP
        yield tick
