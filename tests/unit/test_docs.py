"""What the documents say of settings and commands is what the code knows, and the other way round."""

import pathlib
import re

import click
import msgspec

from qmanager import admin, queueviews
from qmanager.readings import CUMULATIVE
from qslots import TaskInfo, settings
from qslots.reports import QueueStats

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


def commands(group: click.Group, above: str) -> set[str]:
    found = set()
    for name, command in group.commands.items():
        whole = f"{above} {name}"
        found |= commands(command, whole) if isinstance(command, click.Group) else {whole}
    return found


def test_the_page_of_commands_has_every_command_and_no_other() -> None:
    page = (DOCS / "commands.md").read_text()
    listed = {re.sub(r"( [A-Z].*)?$", "", row) for row in re.findall(r"^\| `(qslots [^`]*)`", page, re.MULTILINE)}
    assert listed == commands(admin.main, "qslots")


def documented(command: str) -> set[str]:
    page = (DOCS / "commands.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{command}` | "))
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", row.partition("| ")[2]))))


def test_the_keys_of_the_documents_are_listed() -> None:
    row = queueviews.queue_document("q", None, QueueStats("q", 1.0))
    assert documented("queues") - {"queues"} == row.keys()
    more = {"arrivals", "expired", "counters", "handlers", "servers", "name", "answers", *CUMULATIVE}
    assert documented("queue show") - {"queue", "show", "queues"} == more | set(queueviews.PART)
    assert documented("task show") - {"task", "show"} | {"queue"} == set(TaskInfo.__struct_fields__)
