"""What a type checker of the application says of the calls of its handlers."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CALLS = """
from qslots import Task, task

@task
def resize(photo: str, size: int = 128) -> None: ...

@task(queue="pictures", batch=5)
async def push(url: str) -> int: return 1

@task
def index(tasks: list[Task]) -> None: ...

@task(batch=500)
def file(tasks: list[Task]) -> None: ...

resize.enqueue("a.jpg", size=64)
resize.using(delay="10m").enqueue("a.jpg")
push.enqueue("http://x")
index.enqueue("a", n=1)
file.using(id="t").enqueue(5, "b")
resize.enqueue("a.jpg", size="64")         # wrong
resize.enqueue()                           # wrong
resize.using(delay="10m").enqueue(5)       # wrong
resize.using(countdown=5).enqueue("a.jpg") # wrong
push.enqueue(5)                            # wrong
"""


def test_calls_that_do_not_fit_are_errors_for_a_type_checker(tmp_path: pathlib.Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    (tmp_path / "calls.py").write_text(CALLS)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(ROOT / ".mypy_cache/calls"),
    ]
    done = subprocess.run(
        [*command, "calls.py"], cwd=tmp_path, env={"MYPYPATH": str(ROOT / "slots")}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if line.startswith("calls.py:")}
    wrong = {number for number, line in enumerate(CALLS.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout + done.stderr
