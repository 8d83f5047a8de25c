"""``qmanager check`` on a real queue server: what it finds where something is silent, and how it finds the server."""

import pathlib

import pytest
from click.testing import CliRunner, Result

from qmanager import cli
from qslots import keys
from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.reports import Plan, Report, pack


@pytest.fixture
def control(server: QueueServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QSLOTS_MANAGER_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("QSLOTS_REDIS", raising=False)
    return Control(server)


def checked(*args: str) -> Result:
    return CliRunner().invoke(cli.main, ["check", *args])


def report(control: Control, name: str) -> None:
    control.report(
        Report(
            server=name, incarnation="i", host="h", pid=1, generation=1, declared="", budget=1000, max_slots=8, pss=1,
            free_memory=1, slot_size=100, slot_sizes={}, epoch=7, seq=3,
        ),
        None,
    )  # fmt: skip


def test_a_manager_and_a_server_that_are_silent_are_told_of(control: Control) -> None:
    for name in ("web-1", "web-2"):
        report(control, name)
    control.server.redis.set(keys.PLAN, pack(Plan(7, 3, "web-1/33", control.heard().now - 60, ())))
    control.server.redis.zadd(keys.SEEN, {"web-2": (control.heard().now - 60) * 1e6})
    told = checked("--redis", control.server.url)
    assert told.exit_code == 0
    assert "warning: the newest map is 1m old: no manager has published since" in told.stdout
    assert "warning: lost, as they have not reported for 5 s: web-2\n" in told.stdout


def test_who_is_lost_for_a_manager_is_lost_here(control: Control) -> None:
    now = control.heard().now
    for name, age in {"web-1": 4.0, "web-2": 8.0, "web-3": 60.0}.items():
        report(control, name)
        control.server.redis.zadd(keys.SEEN, {name: (now - age) * 1e6})
    told = checked("--redis", control.server.url)
    assert "for 5 s: web-3\n" in told.stdout, "ages count against the newest report"
    control.server.redis.zadd(keys.SEEN, {"web-1": (now - 60) * 1e6, "web-2": (now - 60) * 1e6})
    assert "warning: no master reports" in checked("--redis", control.server.url).stdout


def test_of_a_queue_server_that_is_away_nothing_is_claimed() -> None:
    told = checked("--redis", "redis://127.0.0.1:1")
    assert told.exit_code == 1
    assert "published" not in told.stdout and "known" not in told.stdout


def test_the_private_queue_server_of_this_folder_is_found(control: Control) -> None:
    left = pathlib.Path(".qslots")
    left.mkdir()
    (left / "redis.sock").symlink_to(control.server.url.removeprefix("unix://"))
    told = checked()
    assert told.exit_code == 0
    assert told.stdout.startswith(f"queue server main, unix://{left.absolute()}/redis.sock: version ")
    (left / "redis.sock").unlink()
    assert "or start one here with `qslots up`" in checked().stderr
