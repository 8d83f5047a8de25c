"""One file, overridden by the environment, then by the command line; what does not fit is named with its path."""

import pathlib
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslots import rlimits
from qslots.errors import SettingsError
from qslots.settings import Settings, build, read

FULL = """
app: [shop.tasks, shop.mail]
queue_servers: {main: redis://10.0.0.5:6379/0}
server: {name: web-7, reserve_memory: 10%, private_limit: 256M, max_slots: auto, user: shop}
manager: {interval: 1s, lost_after: 5s, listen: 127.0.0.1:8620}
queues:
  resize: {priority: 80, min_slots: 4, max_slots: 200, target_delay: 2s, queue_server: main}
"""


@pytest.fixture(scope="module")
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One for all: each test writes its own text."""
    return tmp_path_factory.mktemp("settings")


def file(folder: pathlib.Path, text: str) -> str:
    path = folder / "qslots.yml"
    path.write_text(text)
    return str(path)


def test_file_of_the_documentation_is_read_whole(tmp_path: pathlib.Path) -> None:
    found = read(file(tmp_path, FULL), {})
    assert found.app == ("shop.tasks", "shop.mail")
    assert found.url == "redis://10.0.0.5:6379/0"
    assert (found.server.name, found.server.max_slots, found.manager.listen) == ("web-7", "auto", "127.0.0.1:8620")
    assert (found.queues["resize"].priority, found.queues["resize"].target_delay) == (80, "2s")


def test_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: pathlib.Path) -> None:
    environ = {
        "QSLOTS_CONFIG": file(tmp_path, FULL), "QSLOTS_APP": "a, b,", "QSLOTS_REDIS": "redis://env",
        "QSLOTS_SERVER": "env", "QSLOTS_MAX_SLOTS": "9", "QSLOTS_LOST_AFTER": "7s", "QSLOTS_RESERVE_MEMORY": "",
        "QSLOTS_RECYCLE_AFTER_TASKS": "500", "QSLOTS_RECYCLE_AFTER": "1h",
    }  # fmt: skip
    found = read(None, environ)
    assert (found.app, found.url, found.server.name) == (("a", "b"), "redis://env", "env")
    assert (found.server.max_slots, found.manager.lost_after, found.server.reserve_memory) == (9, "7s", "10%")
    assert (found.server.recycle_after_tasks, found.server.recycle_after) == (500, "1h")
    found = read(None, environ, app=("c",), redis="redis://line", server="line")
    assert (found.app, found.url, found.server.name) == (("c",), "redis://line", "line")


def test_log_level_is_that_of_the_environment_in_any_case(tmp_path: pathlib.Path) -> None:
    path = file(tmp_path, "log_level: warning")
    assert read(path, {}).log_level == "warning"
    assert read(path, {"QSLOTS_LOG_LEVEL": "DEBUG"}).log_level == "DEBUG"
    with pytest.raises(SettingsError, match="log_level: 'loud' is none of debug, info, warning, error"):
        read(path, {"QSLOTS_LOG_LEVEL": "loud"})


def test_other_url_keeps_the_name_that_queues_refer_to(tmp_path: pathlib.Path) -> None:
    found = read(file(tmp_path, FULL), {}, redis="redis://line")
    assert found.queue_servers == {"main": "redis://line"}
    text = "queue_servers: {prod: redis://x}\nqueues: {a: {queue_server: prod}}"
    assert read(file(tmp_path, text), {"QSLOTS_REDIS": "redis://env"}).queue_servers == {"prod": "redis://env"}


def test_named_file_wins_over_the_one_in_the_environment(tmp_path: pathlib.Path) -> None:
    assert read(file(tmp_path, "app: [a]"), {"QSLOTS_CONFIG": "/nowhere"}).app == ("a",)


@pytest.mark.parametrize(
    "text", ["", "# nothing", "app:\nqueue_servers:\nserver:\nmanager:\nqueues:\n", "queues: {a: }"]
)
def test_headings_with_nothing_under_them_change_nothing(tmp_path: pathlib.Path, text: str) -> None:
    found = read(file(tmp_path, text), {})
    assert (found.app, found.queue_servers, found.server) == ((), {}, Settings().server)
    assert read(file(tmp_path, text), {"QSLOTS_SERVER": "x"}).server.name == "x"


@pytest.mark.parametrize(("text", "message"), [
    ("queues: {resize: {priorty: 80}}", "queues.resize.priorty: no such setting; did you mean priority?"),
    ("sever: {}", "sever: no such setting; did you mean server?"),
    ("server: {zzz: 1}", "server.zzz: no such setting; known here: name, reserve_memory"),
    ("manager: {intervall: 1s}", "manager.intervall: no such setting; did you mean interval?"),
    ("1: 2", "1: no such setting; known here: app"),
    ("queues: {resize: {priority: high}}", "queues.resize.priority: 'high' does not fit"),
    ("queues: {resize: {priority: 0}}", "queues.resize.priority: 0 is too small, the least is 1"),
    ("queues: {resize: {priority: 101}}", "queues.resize.priority: 101 is too large, the most is 100"),
    ("queues: {resize: {priority: true}}", "queues.resize.priority: True does not fit"),
    ("queues: {resize: {min_slots: -1}}", "queues.resize.min_slots: -1 is too small"),
    ("queues: {resize: {max_slots: 100000000000000000000}}", "max_slots is 100000000000000000000: write"),
    ("queues: {resize: {min_slots: 4, max_slots: 2}}", "queues.resize: min_slots is 4 and max_slots 2: the least must"),
    ("queues: {resize: {lock: 0.5s}}", "queues.resize.lock: 0.5 is too small, the least is 3"),
    ("queues: {resize: {target_delay: soon}}", "queues.resize.target_delay is 'soon'"),
    ("queues: {resize: {memory: lots}}", "queues.resize.memory is 'lots'"),
    ("queues: {resize: {queue_server: second}}", "queues.resize.queue_server: 'second' is not listed"),
    ("queues: {a: {durability: replicated(2, 1s)}}", "queues.a.durability is 'replicated(2': "),
    ("queues: {a: {durability: replicated(2, 1s)}}", "cut at its comma? In {…} of YAML quote it"),
    ("queues: {'a b': {}}", "queues: the queue name 'a b'"),
    ("queues: {a: 5}", "queues.a: must be a mapping, not 5"),
    ("queues: {a: []}", "queues.a: must be a mapping, not []"),
    ("queues: [a]", "queues: must be a mapping of queue names"),
    ("server: 5", "server: must be a mapping, not 5"),
    ("server: {reserve_memory: 110%}", "server.reserve_memory is '110%'"),
    ("server: {private_limit: many}", "server.private_limit is 'many'"),
    ("server: {max_slots: some}", "server.max_slots: 'some' does not fit"),
    ("server: {recycle_after_tasks: 0}", "server.recycle_after_tasks: 0 is too small, the least is 1"),
    ("server: {recycle_after: soon}", "server.recycle_after is 'soon': write a number of seconds"),
    ("server: {recycle_after: 10ms}", "server.recycle_after: 0.01 is too small, the least is 1"),
    ("server: {max_slots: -2}", "server.max_slots: -2 is too small"),
    ("server: {graceful_timeout: .nan}", "server.graceful_timeout is nan"),
    ("server: {name: 'web 7'}", "server.name 'web 7'"),
    ("manager: {interval: 0}", "manager.interval: 0 is too small"),
    ("manager: {interval: 10h}", "manager.interval: 36000 is too large, the most is 60"),
    ("manager: {lost_after: 1s}", "manager.lost_after: 1 is too small, the least is 2"),
    ("app: 7", "app: 7 does not fit"),
    ("app: ./b3", "app: './b3' is a path: write the module's name, b3, and start in the folder where it is"),
    ("app: [shop.tasks, pkg/tasks.py]", "app: 'pkg/tasks.py' is a path: write the module's name, pkg.tasks, and"),
    ("app: tasks.py", "app: 'tasks.py' is a path: write the module's name, tasks, and"),
    ("app: /srv/shop/tasks.py", "app: '/srv/shop/tasks.py' is a path: write the module's name, tasks, and"),
    ("app: /", "app: '/' is a path: write the module's name"),
    ("queue_servers: {a b: redis://x}", "queue_servers: the name 'a b'"),
    ("queue_servers: redis://x", "queue_servers: 'redis://x' does not fit"),
    ("[a, b]", "the file must be a mapping"),
    ("a: b: c", "is not YAML"),
    ("a: !!python/object:os.system {}", "is not YAML"),
])  # fmt: skip
def test_what_does_not_fit_is_named_with_its_path_on_one_line(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        read(file(tmp_path, text), {})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_value_of_the_environment_is_named_by_its_path() -> None:
    for text in ("many", "-3", "²"):
        with pytest.raises(SettingsError, match=r"server\.max_slots: "):
            read(None, {"QSLOTS_MAX_SLOTS": text})


def test_environment_into_something_that_is_no_mapping_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SettingsError, match="server: must be a mapping, not 5"):
        read(file(tmp_path, "server: 5"), {"QSLOTS_SERVER": "x"})


def test_what_is_wrong_names_the_file_only_if_it_stands_there(tmp_path: pathlib.Path) -> None:
    wrong, right = file(tmp_path, "log_level: loud"), str(tmp_path / "right.yml")
    pathlib.Path(right).write_text("app: a\n")
    with pytest.raises(SettingsError, match=f"^{wrong}: log_level: 'loud' is none of"):
        read(wrong, {})
    assert read(wrong, {"QSLOTS_LOG_LEVEL": "info"}).log_level == "info"
    with pytest.raises(SettingsError, match=r"^log_level: 'shrill' is none of"):
        read(right, {"QSLOTS_LOG_LEVEL": "shrill"})


def test_file_that_cannot_be_read_is_named(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(SettingsError, match=f"settings file {path} cannot be read"):
            read(str(path), {})
    (tmp_path / "latin").write_bytes(b"app: [\xff]")
    with pytest.raises(SettingsError, match="cannot be read"):
        read(str(tmp_path / "latin"), {})


def test_without_a_queue_server_the_ways_to_name_one_are_told() -> None:
    with pytest.raises(SettingsError, match=r"--redis URL, set QSLOTS_REDIS, call qslots\.connect"):
        _ = Settings().url


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_keys = st.sampled_from(["app", "queue_servers", "server", "manager", "queues", "priority", "name", "lock", "x"])


@given(st.recursive(_leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_keys, inner, max_size=3)))
def test_any_document_is_settings_or_a_settings_error(document: object) -> None:
    try:
        assert isinstance(build(document), Settings)
    except SettingsError as error:
        assert str(error)


def test_one_module_need_not_be_a_list() -> None:
    assert build({"app": "shop.tasks"}).app == ("shop.tasks",)


def test_limits_of_the_kernel_are_known_by_name_and_take_sizes() -> None:
    found = build({"server": {"limits": {"nofile": 4096, "core": 0, "as": "2G", "stack": "unlimited"}}}).server.limits
    assert rlimits.parse(found) == {
        resource.RLIMIT_NOFILE: 4096, resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: 2 << 30,
        resource.RLIMIT_STACK: resource.RLIM_INFINITY,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"RLIMIT_NOFILE": 1}, "server.limits.RLIMIT_NOFILE: did you mean nofile?"),
        ({"cores": 0}, "server.limits.cores: did you mean core?"),
        ({"core": -1}, "server.limits.core is -1"),
        ({"core": [1]}, "server.limits"),
    ],
)
def test_limits_that_are_not_known_are_refused(limits: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build({"server": {"limits": limits}})
    assert said in str(caught.value)
