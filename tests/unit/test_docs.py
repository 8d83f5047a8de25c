"""What the documents say of settings and commands is what the code knows, and the other way round."""

import dataclasses
import pathlib
import re
import subprocess
import typing

import click
import msgspec

import qslots
from qmanager import cli as manager_cli
from qmanager.admin import cli as admin
from qmanager.admin import queueviews
from qmanager.check import Found
from qmanager.desk import Vitals
from qmanager.readings import CUMULATIVE
from qmaster import cli as master_cli
from qmaster import requests, signals
from qslots import Queue, Task, TaskInfo, TaskState, hooks, keys, settings, testing, units
from qslots.daemon import notices
from qslots.keys import QueueKeys
from qslots.options import HANDLER_OPTIONS, QUEUE_OPTIONS, Options
from qslots.reports import QueueDeclared, QueueStats

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_table_of_settings_has_every_key_and_no_other() -> None:
    table = (DOCS / "settings.md").read_text()
    listed = set(re.findall(r"^\| `([a-zA-Z_.]+)`", table, re.MULTILINE))
    known = {"app", "queue_servers", "log_level"}
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
    for name in ("reserve_memory", "private_limit", "max_slots", "graceful_timeout", "load_timeout"):
        assert f"`{getattr(settings.ServerSettings(), name)}`" in rows[f"server.{name}"]
    assert f"`{settings.Settings().log_level}`" in rows["log_level"]
    assert ("`true`" in rows["server.no_new_privileges"]) is settings.ServerSettings().no_new_privileges
    for name in ("interval", "lost_after"):
        assert f"`{getattr(settings.ManagerSettings(), name)}`" in rows[f"manager.{name}"]


def commands(group: click.Group, above: str) -> set[str]:
    found = set()
    context = click.Context(group)
    for name in group.list_commands(context):
        command, whole = group.get_command(context, name), f"{above} {name}"
        found |= commands(command, whole) if isinstance(command, click.Group) else {whole}
    return found


def test_the_page_of_commands_has_every_command_and_no_other() -> None:
    page = (DOCS / "commands.md").read_text()
    listed = {re.sub(r"( [A-Z].*)?$", "", row) for row in re.findall(r"^\| `(qslots [^`]*)`", page, re.MULTILINE)}
    assert listed == commands(admin.main, "qslots")


def test_the_page_of_commands_has_every_command_of_qmaster_and_no_other() -> None:
    page = (DOCS / "commands.md").read_text()
    listed = {re.sub(r"( [A-Z].*)?$", "", row) for row in re.findall(r"^\| `(qmaster [^`]*)`", page, re.MULTILINE)}
    assert listed == commands(master_cli.main, "qmaster")


def test_the_page_of_commands_has_every_command_of_qmanager_and_no_other() -> None:
    page = (DOCS / "commands.md").read_text()
    listed = {re.sub(r"( [A-Z].*)?$", "", row) for row in re.findall(r"^\| `(qmanager [^`]*)`", page, re.MULTILINE)}
    assert listed == commands(manager_cli.main, "qmanager")


def keys_under(heading: str) -> set[str]:
    """What stands in backticks in the first cells of the table there."""
    page = (DOCS / "commands.md").read_text().partition(f"{heading}\n")[2]
    table = page.partition("| --- |")[2] or page.partition("|---|---|\n")[2]
    cells = [row.split(" | ")[0] for row in table.partition("\n\n")[0].splitlines()]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_documents_of_qmanager_have_the_keys_of_the_page() -> None:
    assert keys_under("## What `qmanager status` says") == Vitals("web/1", "redis://").document().keys()
    assert keys_under("`qmanager check --json`:") == Found().document().keys()


def test_the_page_of_pacemaker_has_every_parameter_of_the_agent_with_its_default() -> None:
    deploy = DOCS.parent / "deploy"
    told = subprocess.run([deploy / "ocf" / "qmanager", "meta-data"], capture_output=True, text=True, check=True).stdout
    known = re.findall(r'<parameter name="(\w+)".*?default="(.*?)"', told, re.DOTALL)
    page = (deploy / "pacemaker" / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page, re.MULTILINE) == known


def test_the_page_of_commands_has_every_request_of_the_control_socket() -> None:
    told = (DOCS / "commands.md").read_text().partition("Requests: ")[2].partition("What\nis no request")[0]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", told))))
    fields = {name for kind in typing.get_args(requests.Request) for name in kind.__struct_fields__}
    assert words - {"true"} == {*requests.COMMANDS, *fields, "command", "0", "3"}


SIGNALS = (DOCS / "signals.md").read_text()


def test_the_page_of_signals_has_every_signal_of_the_master_and_no_other() -> None:
    listed = [row.split("`")[1] for row in rows("The master", SIGNALS.partition("\n### ")[0])[1:]]
    assert listed == [number.name.removeprefix("SIG") for number in signals.MEANING]


def test_the_page_of_signals_has_those_that_others_than_the_master_leave_to_it() -> None:
    [row] = [row for row in rows("Slots, mold and couriers", SIGNALS) if "they are the master's" in row]
    listed = re.findall(r"`(\w+)`", row.split(" | ")[0])
    assert listed == [number.name.removeprefix("SIG") for number in signals.THE_MASTERS]


def test_the_page_of_signals_has_what_systemd_is_told() -> None:
    listed = {name for row in rows("systemd", SIGNALS)[1:] for name in re.findall(r"`([A-Z_]+)=", row.split(" | ")[0])}
    states = {state.value.partition("=")[0] for state in notices.State if state.value}
    assert listed == states | {"STATUS", "WATCHDOG", "MONOTONIC_USEC", "EXTEND_TIMEOUT_USEC"}
    assert f"`EXTEND_TIMEOUT_USEC={int(notices.EXTENSION * 1e6)}`" in SIGNALS


def documented(command: str) -> set[str]:
    page = (DOCS / "commands.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{command}` | "))
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", row.partition("| ")[2]))))


def test_the_keys_of_the_documents_are_listed() -> None:
    row = queueviews.queue_document("q", None, QueueStats("q", 1.0))
    assert documented("queues") - {"queues"} == row.keys()
    more = {"arrivals", "expired", "counters", "handlers", "servers", "periodic", "name", "answers", *CUMULATIVE}
    assert documented("queue show") - {"queue", "show", "queues"} == more | set(queueviews.PART)
    assert documented("task show") - {"task", "show"} | {"queue"} == set(TaskInfo.__struct_fields__)


SERVER = (DOCS / "queue-server.md").read_text()
LUA = pathlib.Path(__file__).parents[2] / "slots" / "qslots" / "lua"


def rows(heading: str, page: str = SERVER) -> list[str]:
    """The rows of all tables under a heading."""
    part = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("| ")]


def test_the_page_of_the_queue_server_has_every_key_and_no_other() -> None:
    listed = {name for row in rows("Keys") for name in re.findall(r"`([\w:]+)`", row.split(" | ")[0])}
    of_queues = {*QueueKeys.PARTS, *QueueKeys.SLOTS_PARTS}
    of_queues |= {"ticks", "schedule:HANDLER", "parked:COLLECTION", "result:ID", "producer:ID"}
    overall = {value for name, value in vars(keys).items() if name.isupper() and str(value).startswith("qs:")}
    assert listed == of_queues | overall - {keys.PREFIX}


def test_the_page_of_the_queue_server_has_every_script_and_no_other() -> None:
    named = " ".join(row for row in rows("Operations") if not re.match(r"\| `[A-Z]", row))
    listed = set(re.findall(r"`([a-z]+)`", named))
    rooms = {"prelude", "gates", "fates", "places", "gating", "locks", "outcomes", "clock"}
    assert listed == {path.stem for path in LUA.rglob("*.lua")} - rooms


def test_the_page_of_the_queue_server_has_every_refusal_and_no_other() -> None:
    text = "".join(path.read_text() for path in LUA.rglob("*.lua"))
    raised = set(re.findall(r"'([A-Z]{4,}) ", text))
    listed = {word for row in rows("Operations") for word in re.findall(r"`([A-Z]+)`", row.split(" | ")[0])}
    assert listed == raised


API = (DOCS / "api.md").read_text()


def first_names(heading: str) -> set[str]:
    """What stands in backticks in the first cells of a table of the page of the API, without its parentheses."""
    return {name for row in rows(heading, API) for name in re.findall(r"`(\w+)", row.split(" | ")[0])}


def of_class(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_the_page_of_the_api_has_every_public_name_and_no_other() -> None:
    assert first_names("Names") == set(qslots.__all__)
    raised = {name for name in qslots.__all__ if isinstance(getattr(qslots, name), type)
              and issubclass(getattr(qslots, name), Exception)}  # fmt: skip
    ends = {"Retry", "Postpone", "Bury", "SoftTimeLimit"}
    assert first_names("Errors") == raised - ends
    assert first_names("How a task ends") == ends


def test_the_page_of_testing_has_every_name_and_no_other() -> None:
    page = (DOCS / "testing.md").read_text()
    listed = {row.split("`")[1].partition("(")[0] for row in rows("What there is", page)[1:]}
    of_session = {f"q.{name}" for name in of_class(testing.Queues)}
    assert listed == of_session | {"testing.queues"} | set(testing.__all__) - {"Queues", "queues"}
    words = set(re.findall(r"`(\w+)`", next(row for row in rows("What there is", page) if row.startswith("| `Ran`"))))
    assert words >= {field.name for field in dataclasses.fields(testing.Ran)} | {"done", *hooks._WORDS.values()}


def test_the_page_of_the_api_has_every_option_with_its_owner_and_default() -> None:
    cells = {row.split("`")[1]: row.strip("| ").split(" | ") for row in rows("`@task`, the decorator", API)[1:]}
    assert cells.keys() == {"name", "queue"} | QUEUE_OPTIONS | HANDLER_OPTIONS
    handler, queue = Options(), QueueDeclared("q")
    for name, (_, owner, default, _) in cells.items():
        if name in ("name", "queue"):
            continue
        assert owner == ("handler" if name in HANDLER_OPTIONS else "queue")
        meant = getattr(handler if name in HANDLER_OPTIONS else queue, name)
        assert written(name, default.strip("`")) == (None if meant in (None, ()) else meant)


def written(option: str, default: str) -> object:
    """What a default of the table means."""
    if default in ("none", "True"):
        return None if default == "none" else True
    if option == "backoff":
        return qslots.outcomes.Backoff(*units.span(default))
    if option == "max_size":
        return units.size(default)
    if option in ("target_delay", "lock", "dedupe_window"):
        return units.duration(default)
    return int(default) if default.isdecimal() else default


def test_the_page_of_the_api_has_every_method_and_field_and_no_other() -> None:
    assert first_names("`Queue`") == of_class(Queue) - {"name"}
    assert first_names("`Task`") == of_class(Task) - {"outcome", "record"}
    assert first_names("`TaskInfo`") == set(TaskInfo.__struct_fields__)
    assert first_names("`TaskState`") == {state.name for state in TaskState}
    for state in TaskState:
        assert f"| `{state.name}` | `{state.value}` |" in API


TESTS = pathlib.Path(__file__).parents[1]


def proven(page: str) -> int:
    """How many rows of the tables of a page name tests, all of which exist; the last cell of a row has them, or says
    that there is none yet of what is to come later.
    """
    every = [row for heading in re.findall(r"^## (.*)$", page, re.MULTILINE) for row in rows(heading, page)[1:]]
    proofs = [row.rstrip(" |").rpartition(" | ")[2] for row in every if "no test yet" not in row]
    assert all("| later: " in row for row in every if "no test yet" in row)
    for proof in proofs:
        named = re.findall(r"`([\w/.]+)::(\w+)`", proof)
        assert named, f"a row without a test: {proof}"
        for file, name in named:
            assert f"\ndef {name}(" in (TESTS / file).read_text(), f"{file}::{name}"
    return len(proofs)


def test_every_way_to_end_a_task_names_a_test_that_exists() -> None:
    assert proven((DOCS / "outcomes.md").read_text()) > 30


def test_every_fault_names_a_test_that_exists() -> None:
    assert proven((DOCS / "faults.md").read_text()) > 50
