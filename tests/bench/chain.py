"""How fast the whole chain is: no-op tasks through two slots against the bare scripts, and idle enqueue -> start.

    python tests/bench/chain.py [--tasks 200000] [--rounds 3] [--latencies 2000]

Each round drains once with the bare scripts (two processes that exchange and run nothing) and once with two slots of a
real fleet, alternating, on one private queue server with AOF; medians are printed.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import noop  # noqa: E402

import qslots  # noqa: E402
from qslots import embedded  # noqa: E402
from qslots.queueserver import QueueServer  # noqa: E402

LOOK = 0.005


def fill(count: int) -> float:
    """Puts that many tasks; returns tasks/s."""
    began = time.perf_counter()
    noop.noop.enqueue_many((n,) for n in range(count))
    return count / (time.perf_counter() - began)


def drained(server: QueueServer, count: int, before: int) -> float:
    """Tasks/s from the first done to the last."""
    first: tuple[float, int] | None = None
    while True:
        done = server.stats(["noop"])[0].done - before
        now = time.perf_counter()
        if done and first is None:
            first = now, done
        if done >= count and first is not None:
            return (count - first[1]) / (now - first[0])
        time.sleep(LOOK)


def exchange_all(url: str, number: int) -> None:
    """Bare consumer: takes and settles until nothing is left."""
    server = QueueServer(url, name="bare", single=True)
    seq, holder = 1, f"bare/{number}/{os.getpid()}.{time.monotonic_ns()}"
    held: int | None = None
    while True:
        answer = server.exchange("noop", holder, seq, settle=held, want={"noop": 500}, ttl=60.0)
        if answer.pack is None:
            return
        held, seq = seq, seq + 1


def bare(url: str, server: QueueServer, count: int) -> float:
    """Two processes that do nothing but exchange."""
    before = server.stats(["noop"])[0].done
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=exchange_all, args=(url, number)) for number in (0, 1)]
    for each in workers:
        each.start()
    rate = drained(server, count, before)
    for each in workers:
        each.join()
    return rate


@contextlib.contextmanager
def fleet(url: str, folder: pathlib.Path) -> Iterator[None]:
    """``qslots up`` with two slots."""
    environ = {
        **os.environ,
        "QSLOTS_MAX_SLOTS": "2",
        "PYTHONPATH": str(HERE),
        "QSLOTS_RUNTIME_DIR": str(folder / "run"),
    }
    command = [str(pathlib.Path(sys.executable).with_name("qslots")), "up", "--app", "noop", "--redis", url]
    up = subprocess.Popen(
        [*command, "--data", str(folder / "up")],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert up.stdout is not None
    heard: list[str] = []
    for line in up.stdout:
        heard.append(line)
        if "ready at" in line:
            break
    else:
        raise SystemExit("".join(heard))
    try:
        yield
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate()


def latencies(count: int, folder: pathlib.Path) -> list[float]:
    """ms from ``enqueue`` to the first line of the handler, the queue idle before each."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    found = []
    for number in range(count + 1):
        noop.late.enqueue(time.monotonic_ns(), str(pipe))
        delay = struct.unpack("=q", os.read(reader, 8))[0] / 1e6
        if number:  # the first one waits for the first slot to be born
            found.append(delay)
        time.sleep(0.003)  # the slot settles and waits again: what is measured is an idle queue
    os.close(reader)
    return sorted(found)


def main() -> None:
    """Runs all and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latencies", type=int, default=2000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qs") as name:
        folder = pathlib.Path(name)
        with embedded.start(folder / "data", print) as private:
            server = qslots.connect(private.url).control
            print(f"queue server {server.redis.info('server')['executable']}, version {server.version()}")
            rates: dict[str, list[float]] = {"put": [], "bare": [], "slots": []}
            for _ in range(chosen.rounds):
                rates["put"].append(fill(chosen.tasks))
                rates["bare"].append(bare(private.url, server, chosen.tasks))
                rates["put"].append(fill(chosen.tasks))
                before = server.stats(["noop"])[0].done
                with fleet(private.url, folder):
                    rates["slots"].append(drained(server, chosen.tasks, before))
            median = {what: statistics.median(each) for what, each in rates.items()}
            print(f"put, batches of 1,000          {median['put']:>10,.0f} tasks/s")
            print(f"bare scripts, two processes    {median['bare']:>10,.0f} tasks/s")
            part = median["slots"] / median["bare"]
            print(f"two slots, no-op handler       {median['slots']:>10,.0f} tasks/s  ({part:.2f} of bare)")
            with fleet(private.url, folder):
                found = latencies(chosen.latencies, folder)
            p50, p99 = found[len(found) // 2], found[len(found) * 99 // 100]
            print(f"idle enqueue -> handler starts  p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {found[-1]:.2f} ms")


if __name__ == "__main__":
    main()
