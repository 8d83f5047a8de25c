"""The settings of a reload: what changes, what waits for a restart, what is refused."""

import pathlib

import pytest

from qmaster.revision import Source, changes, reread, revised
from qslots.errors import SettingsError
from qslots.settings import Settings, build

RUNNING = build({"app": ["shop"], "queue_servers": {"main": "redis://a"}, "server": {"name": "web-1"}})


def read(**parts: object) -> Settings:
    return build({"app": ["shop"], "queue_servers": {"main": "redis://a"}, "server": {"name": "web-1"}, **parts})


def test_what_lasts_stays_and_is_named() -> None:
    found = read(
        server={"name": "web-2", "user": "shop", "runtime_dir": "/a", "state_dir": "/b", "max_slots": 7},
        queue_servers={"main": "redis://b"},
    )  # fmt: skip
    settings, later = revised(RUNNING, found)
    assert later == ["server.name", "server.user", "server.runtime_dir", "server.state_dir", "queue_servers"]
    assert changes(RUNNING, settings) == ["server.max_slots: 7 (was 'auto')"]


def test_all_else_changes() -> None:
    found = read(app=["shop", "mail"], queues={"work": {"priority": 77}}, log_level="debug")
    settings, later = revised(RUNNING, found)
    assert (settings, later) == (found, [])
    assert changes(RUNNING, settings) == [
        "app: ('shop', 'mail') (was ('shop',))",
        "log_level: 'debug' (was 'info')",
        "queues.work.priority: 77 (was None)",
    ]


def test_a_queue_on_a_server_that_the_master_does_not_know_is_refused() -> None:
    found = read(queue_servers={"main": "redis://a", "b": "redis://b"}, queues={"work": {"queue_server": "b"}})
    with pytest.raises(SettingsError, match=r"queues\.work\.queue_server: 'b' is new in queue_servers"):
        revised(RUNNING, found)


def test_settings_without_an_application_are_refused(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "qslots.yml"
    file.write_text("log_level: debug")
    with pytest.raises(SettingsError, match="no application"):
        reread(Source(str(file)), RUNNING)
    settings, _ = reread(Source(str(file), app=("shop",), server="web-1"), RUNNING)
    assert (settings.log_level, settings.queue_servers) == ("debug", {"main": "redis://a"})
