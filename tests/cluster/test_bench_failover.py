"""``make bench-failover`` at its smallest: a cluster of its own, one fault, its figures."""

import json
import pathlib
import signal
import subprocess
import sys

import pytest
from cluster.pacemaker import PROGRAMS
from cluster.rack import lacking

BENCH = pathlib.Path(__file__).parents[1] / "bench" / "failover.py"
WITHIN = 180.0  # s, of which a quiet machine needs 20


def test_a_small_bench_of_failovers_gives_its_figures() -> None:
    if reason := lacking(PROGRAMS):
        pytest.skip(reason)
    words = [sys.executable, str(BENCH), "--rounds", "1", "--only", "standby", "--json"]
    bench = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, errors = bench.communicate(timeout=WITHIN)
    except subprocess.TimeoutExpired:
        bench.send_signal(signal.SIGINT)  # so that it takes its cluster down
        said, errors = bench.communicate()
    assert bench.returncode == 0, errors
    [found] = json.loads(said)["results"]
    assert "standby" in found["fault"]
    assert 0 < found["median"] == found["max"]
