"""What a master takes for its own predecessors'."""

import pathlib

from qmaster.identity import boards_of


def test_scoreboards_of_a_server_whose_name_begins_alike_are_left_alone(tmp_path: pathlib.Path) -> None:
    for name in ("web.1a-2b-3c.board", "web.1a-2b-4d.board", "web.eu.1a-2b-3c.board", "web.lock", "webs.1-2-3.board"):
        (tmp_path / name).touch()
    assert [path.name for path in boards_of("web", tmp_path)] == ["web.1a-2b-3c.board", "web.1a-2b-4d.board"]
    assert [path.name for path in boards_of("web.eu", tmp_path)] == ["web.eu.1a-2b-3c.board"]
