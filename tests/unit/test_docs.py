"""What the documents say of settings is what the code knows, and the other way round."""

import pathlib
import re

import msgspec

from qslots import settings

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_table_of_settings_has_every_key_and_no_other() -> None:
    table = (DOCS / "settings.md").read_text()
    listed = set(re.findall(r"^\| `([a-zA-Z_.]+)`", table, re.MULTILINE))
    known = {"app", "queue_servers"}
    for room, kind in (("server", settings.ServerSettings), ("manager", settings.ManagerSettings),
                       ("queues.NAME", settings.QueueSettings)):  # fmt: skip
        known |= {f"{room}.{field.name}" for field in msgspec.structs.fields(kind)}
    assert listed == known


def test_the_table_names_the_variable_of_each_key() -> None:
    rows = {row.split("`")[1]: row for row in (DOCS / "settings.md").read_text().splitlines() if row.startswith("| `")}
    for variable, path in settings.ENVIRONMENT.items():
        assert f"`{variable}`" in rows[".".join(path)]


def test_defaults_in_the_table_are_those_of_the_code() -> None:
    rows = {row.split("`")[1]: row for row in (DOCS / "settings.md").read_text().splitlines() if row.startswith("| `")}
    for name in ("reserve_memory", "private_limit", "max_slots", "graceful_timeout"):
        assert f"`{getattr(settings.ServerSettings(), name)}`" in rows[f"server.{name}"]
    for name in ("interval", "lost_after"):
        assert f"`{getattr(settings.ManagerSettings(), name)}`" in rows[f"manager.{name}"]
