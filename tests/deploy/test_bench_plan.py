"""``make bench-plan`` at its smallest: it gives all its figures."""

import json
import pathlib
import subprocess
import sys

BENCH = pathlib.Path(__file__).parents[1] / "bench" / "plan.py"
WITHIN = 120.0  # s, of which a quiet machine needs 3


def test_a_small_bench_of_plans_gives_its_figures() -> None:
    found = subprocess.run(
        [sys.executable, str(BENCH), "--servers", "60", "--queues", "20", "--cycles", "3", "--json"],
        capture_output=True, text=True, timeout=WITHIN, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    figures = {each["what"]: each["figure"] for each in json.loads(found.stdout)["results"]}
    assert {"first plan, from an empty map", "plan after small changes", "slots moved a cycle in steady load"} <= set(
        figures
    )
    assert all(figure >= 0 for figure in figures.values())
