"""What every measurement shares: result records, the server's own account of its time, processes begun at once."""

import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. ``figure`` is None if it was skipped; ``beside`` holds what puts it in proportion."""

    what: str
    figure: float | None
    unit: str
    goal: str = ""
    beside: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, where, and whom to tell. ``url`` is the private queue server's."""

    url: str
    say: Callable[[str], None]
    rounds: int
    quick: bool = False
    deepest: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """µs of the server: in scripts, in commands (those of scripts count again there), and of its processor in all."""

    scripts: float
    commands: float
    processor: float

    def since(self, before: "Spent") -> "Spent":
        """What was spent between two readings."""
        return Spent(self.scripts - before.scripts, self.commands - before.commands, self.processor - before.processor)


def spent(client: redis.Redis) -> Spent:
    """The server's account up to now."""
    stats: dict[str, Any] = client.info("commandstats")
    time: dict[str, Any] = client.info("cpu")
    micros = {name.removeprefix("cmdstat_"): float(each["usec"]) for name, each in stats.items()}
    commands = sum(value for name, value in micros.items() if name not in ("evalsha", "info"))
    return Spent(micros.get("evalsha", 0.0), commands, 1e6 * (time["used_cpu_user"] + time["used_cpu_sys"]))


def middle(values: Sequence[float]) -> float:
    """The median; alternating rounds and medians keep a busy neighbour out of the figures."""
    return statistics.median(values)


def together(work: Callable[[int], T], processes: int) -> list[T]:
    """The results of ``work(number)`` in that many forked processes, which begin at the same moment."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(processes)
    lines = [fork.Pipe(duplex=False) for _ in range(processes)]

    def run(number: int) -> None:
        start.wait()
        lines[number][1].send(work(number))

    workers = [fork.Process(target=run, args=(number,)) for number in range(processes)]
    for each in workers:
        each.start()
    for _, writer in lines:
        writer.close()  # so that a process that fails ends the wait
    try:
        return [reader.recv() for reader, _ in lines]
    except EOFError:
        raise SystemExit("a process of the benchmark failed: see its traceback above") from None
    finally:
        for each in workers:
            each.join()
