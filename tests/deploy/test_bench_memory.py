"""``make bench-memory`` at its smallest: it starts, measures what it says, and leaves nothing behind."""

import json
import os
import pathlib
import subprocess
import sys

BENCH = pathlib.Path(__file__).parents[1] / "bench" / "memory"
WITHIN = 120.0  # s, of which a quiet machine needs 5


def test_a_small_bench_of_idle_slots_gives_its_figures(tmp_path: pathlib.Path) -> None:
    found = subprocess.run(
        [sys.executable, str(BENCH), "--only", "idle", "--slots", "2", "--seconds", "1", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path), "MEMORY_BENCH_SETTLE": "1"}, capture_output=True, text=True,
        timeout=WITHIN, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    [result] = json.loads(found.stdout)["results"]
    assert result["unit"] == "% of a core" and result["figure"] >= 0
    assert set(result["beside"]) == {"slots", "master", "courier", "mold", "redis"}
    assert list(tmp_path.iterdir()) == []
