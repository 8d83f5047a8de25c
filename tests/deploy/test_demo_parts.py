"""The demo's pure parts: what it finds, how it cuts, what it calls lost, which slot it kills, what it remembers."""

import itertools
import pathlib
import sys

import pytest

pytest.importorskip("PIL", reason="Pillow is missing: pip install 'qslots[demo]'")
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "deploy" / "demo"))

from PIL import Image
from qshelf import mail, pictures, shelf, sources
from show import fleet, plan, results, view

CODE = '"""Head."""\nimport os\n\n@wraps\ndef one():\n    return 1\n\nclass Two:\n    def three(self):\n        pass\n'


def write(path: pathlib.Path, text: str = CODE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def slot(index: int, *queues: str, task: str | None = "t") -> fleet.Slot:
    return fleet.Slot(server="lap", index=index, pid=1000 + index, queues=queues, task=task)


def a_run(**changed: object) -> plan.Run:
    fields = {"began": "r", "library": "/l", "stage": plan.Stage.PLANNED,
              "sources": ("/l/a.py", "/l/b/c.py", "/l/b/d.py"),
              "pictures": (("/p.png", "/t.png"),), "photos": "found"} | changed  # fmt: skip
    return plan.Run(**fields)  # type: ignore[arg-type]


def test_sources_are_found_without_installed_packages_and_caches(tmp_path: pathlib.Path) -> None:
    wanted = [write(tmp_path / "a.py"), write(tmp_path / "email" / "b.py")]
    for other in ("site-packages/x.py", "dist-packages/y.py", "__pycache__/z.py", "notes.txt"):
        write(tmp_path / other)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    assert sources.find_sources(tmp_path) == wanted


def test_a_page_is_cut_at_definitions_and_loses_no_line(tmp_path: pathlib.Path) -> None:
    page = sources.read_page(write(tmp_path / "a.py"))
    assert [(cut.name, cut.line) for cut in page.sections] == [
        ("(module)", 1), ("one", 4), ("Two", 8), ("Two.three", 9),
    ]  # fmt: skip
    assert "".join(cut.body for cut in page.sections) == CODE


@pytest.mark.parametrize("raw", [b"", b"def broken(:\n", b"# coding: none-such\nx = 1\n", b"\xff\xfe", b"a\0b\n"])
def test_what_python_cannot_parse_is_one_section(tmp_path: pathlib.Path, raw: bytes) -> None:
    path = tmp_path / "bad.py"
    path.write_bytes(raw)
    assert [cut.name for cut in sources.read_page(str(path)).sections] == ["(module)"]


def test_a_directory_is_due_with_its_last_file_until_somebody_was_told(tmp_path: pathlib.Path) -> None:
    paths = [write(tmp_path / name) for name in ("a.py", "b.py")]
    first, last = (sources.read_page(path) for path in paths)
    index = tmp_path / "index.db"
    shelf.lay_out(index, paths)
    with shelf.open_shelf(index) as opened:
        assert shelf.put(opened, [first]) == []
        assert shelf.put(opened, [last]) == [str(tmp_path)]
        assert shelf.put(opened, [last, last]) == [str(tmp_path)]
        shelf.note_told(opened, str(tmp_path))
        assert shelf.put(opened, [last]) == []
        assert shelf.count_indexed(opened) == 2
        assert shelf.intact_files(opened) == set(paths)
        assert len(shelf.search(opened, "three", 9)) == 2


def test_a_file_with_sections_missing_is_not_intact(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.py")
    index = tmp_path / "index.db"
    shelf.lay_out(index, [path])
    with shelf.open_shelf(index) as opened:
        shelf.put(opened, [sources.read_page(path)])
        opened.execute("DELETE FROM sections WHERE name = 'one'")
        assert shelf.intact_files(opened) == set()


def test_pictures_are_found_largest_first_and_only_real_ones(tmp_path: pathlib.Path) -> None:
    for name, side in (("small.png", 30), ("large.png", 300), ("bullet.png", 8)):
        Image.effect_noise((side, side), 50).save(tmp_path / name)
    write(tmp_path / "not.png", "no picture at all")
    assert [pathlib.Path(path).name for path in pictures.find_pictures(tmp_path, 9)] == ["large.png", "small.png"]
    assert len(pictures.find_pictures(tmp_path, 1)) == 1


def test_a_thumbnail_is_whole_and_small_enough_whatever_the_mode(tmp_path: pathlib.Path) -> None:
    for mode, ending in itertools.product(("RGB", "L"), ("png", "jpg", "gif")):
        photo, target = str(tmp_path / f"{mode}.{ending}"), str(tmp_path / f"t-{mode}-{ending}.png")
        Image.new(mode, (200, 100)).save(photo)
        assert not pictures.is_thumbnail(target, 64)
        pictures.make_thumbnail(photo, target, 64)
        assert pictures.is_thumbnail(target, 64)
    assert not list(tmp_path.glob("*.part"))


def test_two_photos_of_one_name_have_two_thumbnails(tmp_path: pathlib.Path) -> None:
    assert pictures.target_of(tmp_path, "/a/x.png") != pictures.target_of(tmp_path, "/b/x.png")


def test_made_pictures_are_the_same_each_time(tmp_path: pathlib.Path) -> None:
    first, second = (pictures.make_pictures(tmp_path / name, 1)[0] for name in ("a", "b"))
    assert pathlib.Path(first).read_bytes() == pathlib.Path(second).read_bytes()


def test_the_message_id_follows_from_the_directory() -> None:
    one, again = (mail.compose("/l/b", [("/l/b/c.py", 10, 2)])["Message-ID"] for _ in range(2))
    assert one == again == mail.message_id("/l/b") != mail.message_id("/l")


@pytest.mark.parametrize(
    ("missing", "buried", "lost"), [(0, 0, 0), (3, 0, 3), (3, 3, 0), (3, 1, 2), (0, 2, 0)]
)  # fmt: skip
def test_lost_is_what_is_missing_without_being_buried(missing: int, buried: int, lost: int) -> None:
    assert results.Outcome("index", 10, missing, buried).lost == lost


def test_inspection_believes_results_only(tmp_path: pathlib.Path) -> None:
    places = plan.Places.under(tmp_path)
    places.maildir.mkdir(parents=True)
    run = a_run()
    shelf.lay_out(places.index, run.sources)
    outcomes = results.inspect(run, places, [fleet.Queue("thumbnail", buried=1)])
    assert [(each.queue, each.missing, each.lost) for each in outcomes] == [
        ("index", 3, 3), ("thumbnail", 1, 0), ("notify", 2, 2),
    ]  # fmt: skip
    assert results.total_lost(outcomes) == 5


@pytest.mark.parametrize(
    ("slots", "picked"),
    [
        ([], None),
        ([slot(0, "index", task=None)], None),
        ([slot(0, "thumbnail"), slot(1, "index")], 1),
        ([slot(2, "index", "notify"), slot(1, "index"), slot(0, "index", task=None)], 1),
        ([slot(0, "index", task=None), slot(3, "notify")], 3),
    ],
)
def test_the_slot_to_kill_is_busy_and_rather_one_of_the_index(slots: list[fleet.Slot], picked: int | None) -> None:
    chosen = fleet.pick_slot(slots)
    assert (chosen.index if chosen else None) == picked


@pytest.mark.parametrize(
    ("queues", "empty"),
    [
        ([], False),
        ([fleet.Queue("index")], False),
        ([fleet.Queue("index"), fleet.Queue("notify", buried=2)], True),
        ([fleet.Queue("index"), fleet.Queue("notify", inactive=1)], False),
        ([fleet.Queue("index", locked=1), fleet.Queue("notify"), fleet.Queue("other", active=5)], False),
    ],
)
def test_queues_are_empty_only_when_all_of_them_have_answered(queues: list[fleet.Queue], empty: bool) -> None:
    assert fleet.are_empty(queues, ("index", "notify")) is empty


def test_a_process_that_is_not_of_our_fleet_is_not_killed() -> None:
    mine = fleet.Slot(server="lap", index=0, pid=1, task="t")
    assert fleet.kill(mine, up=2**22 + 1) is None


def test_the_ledger_survives_and_remembers(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "ledger.json"
    assert plan.read_ledger(file) is None
    run = a_run().at(plan.Stage.ENQUEUED).again().with_killed("lap/0")
    plan.write_ledger(file, run)
    assert plan.read_ledger(file) == run
    assert (run.sessions, run.killed, run.directories) == (2, "lap/0", ("/l", "/l/b"))


def test_a_ledger_that_cannot_be_read_is_named_with_the_remedy(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "ledger.json"
    file.write_text('{"run": 3}')
    with pytest.raises(plan.DemoError, match=r"ledger\.json.*remove the file"):
        plan.read_ledger(file)


def test_an_interrupted_run_goes_on_and_an_ended_one_is_followed_by_a_fresh_one(tmp_path: pathlib.Path) -> None:
    library, photos, places = tmp_path / "lib", tmp_path / "photos", plan.Places.under(tmp_path / "demo")
    write(library / "a.py")
    photos.mkdir()
    Image.new("RGB", (32, 32)).save(photos / "p.png")
    environ = {"PHOTOS": str(photos), "SOURCES": str(library)}
    first = plan.prepare(places, environ)
    result = places.thumbs / "left.png"
    result.touch()
    assert plan.prepare(places, environ).sessions == 2
    assert result.exists()
    plan.write_ledger(places.ledger, first.at(plan.Stage.ENDED))
    assert plan.prepare(places, environ).sessions == 1
    assert not result.exists()


def test_bad_places_are_refused_with_the_remedy(tmp_path: pathlib.Path) -> None:
    with pytest.raises(plan.DemoError, match="DEMO_DATA"):
        plan.Places.of({"DEMO_DATA": "x" * 100}, tmp_path)
    with pytest.raises(plan.DemoError, match="PHOTOS"):
        plan.prepare(plan.Places.under(tmp_path), {"PHOTOS": str(tmp_path / "nowhere")})
    with pytest.raises(plan.DemoError, match="SOURCES"):
        plan.prepare(plan.Places.under(tmp_path), {"SOURCES": str(tmp_path)})


def test_where_there_are_no_pictures_some_are_made(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "lib" / "a.py")
    monkeypatch.setattr(pictures, "MADE", 2)
    places = plan.Places.under(tmp_path / "demo")
    run = plan.prepare(places, {"SOURCES": str(tmp_path / "lib"), "PHOTOS": str(tmp_path / "lib")})
    assert [pathlib.Path(photo).parent for photo, _ in run.pictures] == [places.results / "pictures"] * 2
    assert "made" in run.photos


def test_rates_are_of_this_session_and_stop_with_the_last_task() -> None:
    track = results.Track("index", total=100, before=40, done=40, began=10.0, last=10.0).at(90, 20.0)
    assert (track.rate(track.last), track.seconds) == (5.0, 10.0)
    assert track.rate(60.0) == 1.0
    done = track.at(107, 22.0).at(107, 30.0)
    assert (done.done, done.last) == (100, 22.0)
    assert view.plain_line([done], [slot(0, "index"), slot(1, task=None)], 30.0).split() == (
        ["20", "s", "index", "100/100", "(5/s)", "slots", "2,", "1", "busy"]
    )
