"""What ``qslots task`` understands and how it shows a task; no queue server."""

import datetime
import io
import typing

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from qmanager.admin import cli as admin
from qmanager.admin import tasktext
from qmanager.admin.command import as_document
from qmanager.admin.task import arguments, instant
from qslots import Owner, TaskInfo, TaskState

NOW = 1_800_000_000.0


def info(**changes: typing.Any) -> TaskInfo:
    known: dict[str, typing.Any] = dict.fromkeys(TaskInfo.__struct_fields__)
    known |= {
        "id": "t1", "queue": "mail", "handler": "send", "collection": "", "state": TaskState.ENQUEUED,
        "put_at": NOW - 60, "due_at": NOW - 5, "locked": False, "retries": 0, "failures": 0, "crashes": 0, "losses": 0,
        "last_error": "", "args": (), "kwargs": {"to": "a@b"}, "afterwards": "", "parked": False, "server": "main",
    }  # fmt: skip
    return TaskInfo(**(known | changes))


def shown(task: TaskInfo) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(tasktext.table(task, NOW))
    return typing.cast(io.StringIO, console.file).getvalue()


@pytest.mark.parametrize(
    ("at", "delay", "when"),
    [
        ("1900000000", None, 1_900_000_000.0),
        ("2031-05-01T08:00+02:00", None, 1_935_381_600.0),
        (None, "10m", NOW + 600),
        (None, "0s", NOW),
    ],
)
def test_a_time_is_given_as_such_or_from_now(at: str | None, delay: str | None, when: float) -> None:
    assert instant(at, delay, lambda: NOW) == when


def test_a_time_without_a_zone_is_local() -> None:
    local = datetime.datetime(2031, 5, 1, 8, 0).astimezone().timestamp()
    assert instant("2031-05-01T08:00", None, lambda: NOW) == local


@pytest.mark.parametrize(
    ("at", "delay"), [(None, None), ("1", "1s"), ("soon", None), (None, "soon"), ("nan", None), ("9e99", None)]
)
def test_what_is_no_time_is_refused(at: str | None, delay: str | None) -> None:
    with pytest.raises(click.UsageError):
        instant(at, delay, lambda: NOW)


def test_changes_are_json() -> None:
    told = ["size=64", 'photo="a=b.jpg"', "tags=[1, null]", "deep={}"]
    assert arguments(told) == {"size": 64, "photo": "a=b.jpg", "tags": [1, None], "deep": {}}


@pytest.mark.parametrize("change", ["photo=a.jpg", "size", "=3", "a b=3", "size="])
def test_what_is_no_change_is_refused_with_the_form(change: str) -> None:
    with pytest.raises(click.UsageError, match="JSON"):
        arguments([change])


@pytest.mark.parametrize(
    "args",
    [
        ("kick",), ("kick", "a", "--count", "3", "--queue", "q"), ("kick", "--count", "3"), ("delete",),
        ("update", "a"), ("update", "a", "b"), ("move", "a"), ("move", "a", "--at", "soon"),
        ("find", "--state", "gone"), ("find", "--limit", "0"), ("show",),
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(args: tuple[str, ...]) -> None:
    result = CliRunner().invoke(admin.main, ["task", *args, "--redis", "unix:///none"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("t1", "enqueued", "mail/send(to='a@b')", "due for 5.0s")),
        ({"state": TaskState.NEW, "due_at": NOW + 600}, ("new", "due in 10m")),
        ({"locked": True, "due_at": None}, ("locked",)),
        ({"locked": True, "owner": Owner("web-1", 3), "afterwards": "gone"}, ("in slot web-1/3, then deleted",)),
        ({"locked": True, "owner": Owner("web-1", None)}, ("taken on web-1",)),
        ({"parked": True}, ("its collection is paused",)),
        ({"state": TaskState.FATAL_FAILURE, "failures": 5, "last_error": "Traceback\n …\nKeyError: 'x'"},
         ("fatal_failure", "failed 5x: KeyError: 'x'")),
        ({"crashes": 2, "last_error": "killed by SIGSEGV"}, ("crashed 2x: killed by SIGSEGV",)),
        ({"state": TaskState.SUCCESS, "finished_at": NOW - 90, "due_at": None}, ("success", "finished 1m 30s ago")),
    ],
)  # fmt: skip
def test_a_line_says_what_where_when_and_what_went_wrong(changes: dict[str, object], words: tuple[str, ...]) -> None:
    line = tasktext.line(info(**changes), NOW)
    assert all(word in line for word in words), line
    assert "\n" not in line


def test_a_long_argument_is_cut_in_a_line_and_a_huge_one_in_the_table() -> None:
    long = info(args=("x" * 100,), kwargs={})
    assert "x" * 100 not in tasktext.line(long, NOW)
    assert "x" * 100 in shown(long)
    huge = shown(info(args=("x" * 100_000,), kwargs={}))
    assert len(huge) < 2000
    assert "all of it with --json" in huge


def test_a_finished_task_is_not_shown_as_if_it_had_no_arguments() -> None:
    done = info(state=TaskState.SUCCESS, finished_at=NOW - 1, due_at=None, kwargs={})
    assert "send(" not in shown(done) + tasktext.line(done, NOW)


def test_nothing_from_outside_reaches_the_terminal_as_it_is() -> None:
    bad = info(id="\x1b[2Jt\n", last_error="[red]\x1b[0m\rE", kwargs={"a": "\x1b"})
    assert "\x1b" not in tasktext.line(bad, NOW) + shown(bad)
    assert "[red]" in shown(bad)


def test_the_table_has_everything_of_a_task_that_failed() -> None:
    text = shown(info(failures=2, retries=3, last_error="Traceback:\n  line 3\nKeyError: 'x'", collection="spring"))
    for words in ("mail on main", "spring", "2 failures", "3 retries", "  line 3", "1m ago"):
        assert words in text
    assert "result" in shown(info(finished_at=NOW, result={"a": 1}))


def test_the_document_has_the_fields_as_they_are_and_what_json_does_not_know_as_text() -> None:
    document = as_document(info(result=object(), kwargs={"b": b"\x00", "c": {(1, 2): 3}}))
    assert '"state": "enqueued"' in document
    assert "<object object" in document
    assert '"(1, 2)": 3' in document
