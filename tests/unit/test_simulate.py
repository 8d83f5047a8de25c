"""``qmanager simulate``: the CSV it reads, what it prints and draws, how it refuses."""

import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import click
import pytest
from click.testing import CliRunner, Result

from qmanager.cli import main
from qmanager.simulate import simulate
from qmanager.simulation import chart, loadfile
from qmanager.simulation.loadfile import COLUMNS, NEEDED, load_of
from qmanager.simulation.measures import QueueFigures
from qmanager.simulation.scenarios import SCENARIOS
from qslots.errors import Error
from qslots.settings import QueueSettings

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "simulation.md").read_text()
HEAD = "time,queue,arrivals,service_time"


def invoked(*words: object) -> Result:
    result = CliRunner().invoke(main, ["simulate", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def load_file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "load.csv"
    path.write_text(
        "time,queue,arrivals,service_time,priority,target_delay,batch,memory\n"
        "0,mail,2,250ms,90,1s,,\n"
        "0,index,600/m,0.05,,5s,10,128M\n"
        "20s,mail,8,,,,,\n"
        "40s,mail,0,,,,,\n"
    )
    return path


def test_a_file_is_read_row_by_row(load_file: pathlib.Path) -> None:
    load = load_of(load_file, {}, None)
    mail, index = load.queues
    assert [(each.at, each.arrivals, each.service_time) for each in mail.phases] == [
        (0.0, 2.0, 0.25), (20.0, 8.0, 0.25), (40.0, 0.0, 0.25),
    ]  # fmt: skip
    assert (mail.declared.priority, mail.declared.target_delay) == (90, 1.0)
    assert (index.declared.handlers[0].batch, index.declared.memory, index.phases[0].arrivals) == (10, 128 << 20, 10.0)
    assert load.duration == 60.0  # as long after the last time as before it
    assert load.urgent == ("mail",)


def test_settings_stand_above_the_file(load_file: pathlib.Path) -> None:
    load = load_of(load_file, {"index": QueueSettings(priority=99, max_slots=3)}, 10.0)
    assert (load.queues[1].declared.priority, load.queues[1].declared.max_slots, load.duration) == (99, 3, 10.0)


@pytest.mark.parametrize(("rows", "told"), [
    (f"{HEAD}\n0,mail,2,fast", "line 2, column service_time: 'fast' does not fit: write seconds, or a text such as"),
    (f"{HEAD}\n0,mail,-2,1", "line 2, column arrivals: '-2' does not fit: write tasks a second, 0 or more"),
    (f"{HEAD}\n0,mail,{'9' * 5000},1", "line 2, column arrivals: "),
    (f"{HEAD}\n0,mail,nan,1", "line 2, column arrivals: 'nan' does not fit: write tasks a second"),
    (f"{HEAD},cv\n0,mail,2,1,1e300", "line 2, column cv: '1e300' does not fit: write a number, 0 to 100"),
    (f"{HEAD}\n0,ma il,2,1", "line 2, column queue: 'ma il' does not fit: write 1 to 64 letters"),
    (f"{HEAD}\n0,mail,2,", "line 2, column service_time: '' does not fit: the first row of a queue needs one"),
    (f"{HEAD}\n,mail,2,1", "line 2, column time: '' does not fit: every row needs one"),
    (f"{HEAD}\n0,mail,2,0", "line 2, column service_time: 0 does not fit: a task takes some time"),
    (f"{HEAD}\n5,mail,2,1\n5,mail,2,1", "line 3, column time: 5 does not fit: later than the row before"),
    (f"{HEAD}\n0,mail,2,1,9", "line 2: 5 cells for 4 columns"),
    (f"{HEAD},priorty\n0,mail,2,1,9", "line 1, column 'priorty': no such column; did you mean priority?"),
    (f"{HEAD},priority\n0,mail,2,1,900", "line 2, column priority: '900' does not fit: write a whole number, 1 to 100"),
    (f"{HEAD},priority\n0,mail,2,1,9\n1,mail,2,1,8", "line 3, column priority: 8 does not fit: write it in the first"),
    (f"{HEAD},slowdown\n0,mail,2,1,0.5", "line 2, column slowdown: '0.5' does not fit: write a number, 1 or more"),
    (f"{HEAD},memory\n0,mail,2,1,big", "line 2, column memory: 'big' does not fit: write a number of bytes"),
    (f"{HEAD},min_slots,max_slots\n0,mail,2,1,5,4", "queue mail: min_slots is 5 and max_slots 4"),
    (f"{HEAD},time\n0,mail,2,1,0", "line 1, column time: it is there twice"),
    ("time,queue\n0,mail", "line 1: the column arrivals is missing"),
    (HEAD, "has no rows"),
    ("", "line 1: the column time is missing"),
    (f'{HEAD}\n0,"mail,2,1', "line 2 is not CSV"),
    (f"{HEAD}\n0,mail,1e6,1", "draws 1,020,000,000 tasks"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_on_one_line(rows: str, told: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text(rows)
    result = invoked(path, "--duration", "15m")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("qmanager: ") and result.stderr.count("\n") == 1
    assert told in result.stderr
    assert str(path) in result.stderr or "draws" in told


def test_a_file_of_single_tasks_is_refused_before_it_fills_the_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadfile, "MOST_ROWS", 2)
    path = tmp_path / "load.csv"
    path.write_text(f"{HEAD}\n0,mail,1,1\n1,mail,2,1")
    assert load_of(path, {}, None).duration == 2
    path.write_text(f"{HEAD}\n0,mail,1,1\n1,mail,2,1\n2,mail,1,1")
    with pytest.raises(Error, match="more than 2 rows: write one where the load changes"):
        load_of(path, {}, None)


def test_a_file_that_cannot_be_read_is_told_of(tmp_path: pathlib.Path) -> None:
    (tmp_path / "latin.csv").write_bytes(f"{HEAD}\n0,caf\xe9,1,1".encode("latin-1"))
    why = {"none.csv": "cannot be read: No such file", ".csv": "cannot be read", "latin.csv": "is not UTF-8"}
    for name, told in why.items():
        result = invoked(tmp_path / name)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert told in result.stderr


def test_columns_may_be_named_as_people_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("time, queue, arrivals, service time\n0,mail,2,1\n9,mail,0,1")
    usual = load_of(path, {}, None)
    path.write_text("Time,Queue,Arrivals,Service-Time\n0,mail,2,1\n9,mail,0,1")
    assert load_of(path, {}, None) == usual


@pytest.mark.parametrize("words", [
    ["tenfolded"], [], ["steady", "--servers", "0"], ["steady", "--duration", "soon"], ["steady", "--chart", "a.pdf"],
    ["steady", "--duration", "0"], ["steady", "--duration", "31d"],
])  # fmt: skip
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    assert invoked(*words).exit_code == 2


SMALL = ("--servers", 2, "--slots", 3, "--duration", "40s")
ALONE = (*SMALL, "--no-compare")


def test_tables_name_every_queue_and_policy(load_file: pathlib.Path) -> None:
    printed = invoked(load_file, *SMALL).stdout
    for word in ("mail", "index", "qslots", "static", "backlog", "urgent p99", "slot-hours", "starved", "unstarted"):
        assert word in printed
    assert "static" not in invoked(load_file, *ALONE).stdout


def test_the_document_has_the_keys_of_the_page(load_file: pathlib.Path) -> None:
    document = json.loads(invoked(load_file, *ALONE, "--json").stdout)
    told = set(re.findall(r"`(\w+)`", PAGE.partition("\n## `--json`\n")[2]))
    outcome = document["outcomes"][0]
    keys = {*document, *outcome, *outcome["slots"], *outcome["moved"], *QueueFigures.__slots__}
    assert keys <= told
    assert outcome["queues"]["mail"].keys() == set(QueueFigures.__slots__)


def test_the_page_has_every_column_and_scenario_and_no_other() -> None:
    own = PAGE.partition("\n## A load of your own\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| (`.*?) \|", own, re.MULTILINE)
    columns = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert columns == COLUMNS.keys() >= NEEDED.keys()
    scenarios = re.findall(r"^\| `(\w+)`", PAGE.partition("\n## Scenarios\n")[2].partition("\n## ")[0], re.MULTILINE)
    assert scenarios == list(SCENARIOS)


def test_the_example_of_the_page_can_be_played(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(re.search(r"```csv\n(.*?)```", PAGE, re.DOTALL)[1])  # type: ignore[index]
    assert invoked(path, *ALONE).exit_code == 0


@pytest.mark.parametrize(("duration", "expected"), [
    (7.0, [0, 2, 4, 6]),
    (420.0, [0, 120, 240, 360]),
    (600.0, [0, 120, 240, 360, 480, 600]),
    (3600.0, [0, 600, 1200, 1800, 2400, 3000, 3600]),
    (86400.0, [0, 21600, 43200, 64800, 86400]),
    (12 * 86400.0, [0, 172800, 345600, 518400, 691200, 864000, 1036800]),
])  # fmt: skip
def test_times_below_a_curve_are_round(duration: float, expected: list[int]) -> None:
    assert chart.times(duration) == expected


@pytest.mark.parametrize("kind", [".html", ".svg"])
def test_a_chart_is_well_formed_and_needs_nothing_from_outside(kind: str, load_file: pathlib.Path) -> None:
    odd = load_file.with_name("a <b> & 'c'.csv")
    load_file.rename(odd)
    picture = odd.with_suffix(kind)
    assert invoked(odd, *SMALL, "--chart", picture).exit_code == 0
    text = picture.read_text()
    tree = ET.fromstring(text.partition("<!DOCTYPE html>\n")[2] or text)
    lines = tree.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert {line.get("stroke-dasharray") for line in lines} == {None, "7 3", "2 2"}  # told apart without colour
    [svg] = tree.iter("{http://www.w3.org/2000/svg}svg")
    assert svg.get("viewBox") == f"0 0 {svg.get('width')} {svg.get('height')}"  # so that it fits window and paper
    assert "<script" not in text and "href" not in text
    assert set(re.findall(r"https?://[^\s\"]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_chart_in_pixels_needs_an_extra(load_file: pathlib.Path) -> None:
    picture = load_file.with_suffix(".png")
    result = invoked(load_file, *ALONE, "--chart", picture)
    if result.exit_code:
        assert "pip install 'qslots[chart]'" in result.stderr and result.stderr.count("\n") == 1
    else:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_chart_that_cannot_be_written_is_told_of(load_file: pathlib.Path) -> None:
    result = invoked(load_file, *ALONE, "--chart", load_file.parent / "no" / "such.html")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "the chart cannot be written" in result.stderr


def test_tab_knows_the_scenarios_and_files() -> None:
    [argument] = [each for each in simulate.params if each.name == "load"]
    ctx = click.Context(simulate)
    assert [each.value for each in argument.shell_complete(ctx, "s")] == ["steady", "sick"]
    assert [each.type for each in argument.shell_complete(ctx, "./lo")] == ["file"]


def test_a_manager_that_runs_loads_nothing_of_the_simulation() -> None:
    loaded = "import sys, qmanager.cli, qmanager.loop; print([name for name in sys.modules if 'simulat' in name])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_and_tab_know_the_command() -> None:
    assert "simulate" in CliRunner().invoke(main, ["--help"]).stdout
    assert "_QMANAGER_COMPLETE" in CliRunner().invoke(main, ["completion", "bash"]).stdout
