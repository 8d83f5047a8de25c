"""The admin command without a queue server: usage, errors in one line, and what `up` decides about its children."""

import pathlib
import signal
import typing

import pytest
from click.testing import CliRunner, Result

from qmanager import cli as manager_cli
from qmanager.admin import cli as admin
from qmanager.admin import up
from qmaster import cli as master_cli
from qslots import completion, settings
from qslots.client import found
from qslots.errors import SettingsError

READING = ("map", "queues", "servers", "slots")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, no settings file and no QSLOTS_ in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path / "none.yml")
    for name in (*settings.ENVIRONMENT, "QSLOTS_CONFIG", "QSLOTS_DATA"):
        monkeypatch.delenv(name, raising=False)


def qslots(*args: str) -> Result:
    return CliRunner().invoke(admin.main, args)


def one_line_error(result: Result) -> str:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("qslots: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", READING)
def test_without_a_queue_server_every_command_says_how_to_name_one(command: str) -> None:
    said = one_line_error(qslots(command))
    assert "--redis URL" in said
    assert "qslots up" in said
    assert "connect(" not in said, "which is for programs"


@pytest.mark.parametrize("program", [manager_cli, master_cli])
def test_the_daemons_without_a_queue_server_say_what_a_command_line_can_do(program: typing.Any) -> None:
    result = CliRunner().invoke(program.main, ["run"], env={"QSLOTS_APP": "shop"})
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--redis URL" in result.stderr
    assert "connect(" not in result.stderr


@pytest.mark.parametrize("command", READING)
def test_a_queue_server_that_is_not_there_is_one_line(command: str, tmp_path: pathlib.Path) -> None:
    assert "does not answer" in one_line_error(qslots(command, "--json", "--redis", f"unix://{tmp_path}/none"))


def test_a_wrong_settings_file_is_one_line_that_names_the_place(tmp_path: pathlib.Path) -> None:
    (tmp_path / "q.yml").write_text("queues: {mail: {priorty: 3}}")
    assert "did you mean priority?" in one_line_error(qslots("queues", "-c", "q.yml"))


@pytest.mark.parametrize(
    "args", [("nonsense",), ("map", "--nonsense"), ("completion", "ksh"), ("map", "--watch", "--json")]
)
def test_wrong_usage_exits_with_2(args: tuple[str, ...]) -> None:
    assert qslots(*args).exit_code == 2


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script_that_says_how_to_use_it(shell: str) -> None:
    result = qslots("completion", shell)
    assert result.exit_code == 0
    assert f"\n# To use this: {completion.HOW[shell].format(program='qslots')}\n" in "\n" + result.stdout
    assert "_QSLOTS_COMPLETE" in result.stdout


def test_help_and_version_need_nothing() -> None:
    assert "up" in qslots("-h").stdout
    assert qslots("--version").stdout.startswith("qslots")
    for command in (*READING, "up", "completion"):
        assert qslots(command, "--help").exit_code == 0


def test_the_private_server_of_up_in_this_folder_is_found_unless_a_url_is_given(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SettingsError):
        found(settings.Settings())
    settings.LEFT_BY_UP.parent.mkdir()
    settings.LEFT_BY_UP.touch()
    assert found(settings.Settings()).url == f"unix://{tmp_path}/.qslots/redis.sock"
    assert found(settings.Settings(queue_servers={"main": "redis://h"})).url == "redis://h"


def test_up_without_an_application_starts_nothing(tmp_path: pathlib.Path) -> None:
    assert "--app MODULE" in one_line_error(qslots("up"))
    assert list(tmp_path.iterdir()) == []


def test_up_refuses_a_folder_that_others_may_enter_and_does_not_change_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    assert "chmod 700" in one_line_error(qslots("up", "--app", "shop", "--data", "open"))
    assert list((tmp_path / "open").iterdir()) == []


def judged(code: int, *, past: up.Past | None = None, ready: bool = True, may_end: bool = True) -> up.Verdict:
    return up.judge(past or up.Past(born=90.0), code, ready=ready, may_end=may_end, now=100.0)[1]


@pytest.mark.parametrize("code", [1, 2])
def test_a_child_that_refuses_to_start_ends_up_with_its_code(code: int) -> None:
    assert judged(code, ready=False) == up.Verdict(None, code)


@pytest.mark.parametrize("code", [-signal.SIGKILL, 3, 1, 2])
def test_a_child_that_dies_later_is_started_again(code: int) -> None:
    assert judged(code) == up.Verdict(101.0)


def test_a_child_that_is_killed_before_readiness_is_started_again() -> None:
    assert judged(-signal.SIGKILL, ready=False) == up.Verdict(101.0)


def test_a_child_that_was_told_to_stop_ends_all_but_not_so_the_queue_server() -> None:
    assert judged(0) == up.Verdict(None, 0)
    assert judged(0, may_end=False) == up.Verdict(101.0)


def test_the_pause_doubles_to_half_a_minute_and_a_minute_of_life_resets_it() -> None:
    past, pauses = up.Past(), []
    for _ in range(7):
        past, verdict = up.judge(past, -9, ready=True, may_end=True, now=10.0)
        assert verdict.again is not None
        pauses.append(verdict.again - 10.0)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert up.judge(past, -9, ready=True, may_end=True, now=70.0)[1].again == 71.0


def test_three_refusals_within_a_minute_end_up_with_1_and_spread_ones_do_not() -> None:
    def last(*moments: float) -> up.Verdict:
        past, verdict = up.Past(), up.Verdict(None)
        for now in moments:
            past, verdict = up.judge(past, 2, ready=True, may_end=True, now=now)
        return verdict

    assert last(0.0, 20.0, 59.0) == up.Verdict(None, 1)
    assert last(0.0, 20.0, 61.0).again is not None


def test_how_a_child_ended_is_told_by_the_name_of_the_signal() -> None:
    assert up.describe(-9) == "was killed by SIGKILL"
    assert up.describe(-40) == "was killed by signal 40"
    assert up.describe(3) == "ended with exit code 3"


def environment(chosen: settings.Settings, **environ: str) -> dict[str, str]:
    here = pathlib.Path("/here")
    return up.child_environ(environ, chosen, url="unix:///s", data=here / "d", file="q.yml", cwd=here)


def test_children_get_the_settings_whole_and_the_current_folder_first_on_their_path() -> None:
    environ = environment(settings.Settings(app=("a", "b")), PYTHONPATH="/lib", HOME="/h")
    assert environ == {
        "HOME": "/h", "QSLOTS_APP": "a,b", "QSLOTS_REDIS": "unix:///s", "QSLOTS_CONFIG": "/here/q.yml",
        "QSLOTS_STATE_DIR": "/here/d/state", "PYTHONPATH": "/here:/lib",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "listed", "told"),
    [
        ("unix:///s", None, " (export QSLOTS_REDIS=unix:///s)"),
        ("unix:///s", "{main: 'unix:///s', b: 'unix:///t'}", " (export QSLOTS_CONFIG=FILE)"),
        ("unix:///o", "{main: 'unix:///s', b: 'unix:///t'}", " (export QSLOTS_CONFIG=FILE QSLOTS_REDIS=unix:///o)"),
        ("unix:///s", "{}", " (export QSLOTS_CONFIG=FILE QSLOTS_REDIS=unix:///s)"),
        ("redis://u:p@h", "{main: 'redis://u:p@h'}", " (export QSLOTS_CONFIG=FILE)"),
        ("redis://u:p@h", None, ""),
        ("redis://u:p@h", "{}", ""),
    ],
)
def test_producers_are_told_of_the_settings_file_and_never_of_a_password(
    tmp_path: pathlib.Path, url: str, listed: str | None, told: str
) -> None:
    (tmp_path / "q.yml").write_text(f"queue_servers: {listed}\n")
    file = None if listed is None else "q.yml"
    assert up.for_producers(url, file, tmp_path) == told.replace("FILE", str(tmp_path / "q.yml"))


def test_what_the_file_says_of_servers_and_folders_stays() -> None:
    server = settings.ServerSettings(name="web-7", state_dir="/var/lib/q")
    environ = environment(settings.Settings(queue_servers={"east": "unix:///s"}, server=server))
    assert environ["QSLOTS_REDIS"] == "unix:///s", "the first one of the file, under the name it has there"
    assert "QSLOTS_STATE_DIR" not in environ
    assert environ["QSLOTS_SERVER"] == "web-7"
