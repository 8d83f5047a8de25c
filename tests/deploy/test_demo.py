"""The demo for real, on a small tree: what it says at its end, what it leaves on the disk, and that nothing stays."""

import mailbox
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

import psutil
import pytest
from support.waiting import wait_for

Image = pytest.importorskip("PIL.Image", reason="Pillow is missing: pip install 'qslots[demo]'")
pytest.importorskip("aiosmtpd", reason="aiosmtpd is missing: pip install 'qslots[demo]'")

RUN = pathlib.Path(__file__).parents[2] / "deploy" / "demo" / "run.py"
WITHIN = 60.0  # s, of which a quiet machine needs 6
PACKAGES = ("asyncio", "json", "unittest")  # of the standard library, on any machine
PICTURES = 12


class Demo:
    """The command ``run.py`` in a folder of its own, over a tree of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.data = folder / "d"
        self.said = folder / "said"
        library = pathlib.Path(sysconfig.get_path("stdlib"))
        for package in PACKAGES:
            shutil.copytree(
                library / package, folder / "lib" / package, ignore=shutil.ignore_patterns("test*", "__pycache__")
            )
        (folder / "photos").mkdir()
        for number in range(PICTURES):
            Image.effect_noise((300, 200 + number), 60).save(folder / "photos" / f"{number}.png")

    def start(self) -> "subprocess.Popen[bytes]":
        environ = {
            **os.environ,
            "SOURCES": str(self.folder / "lib"),
            "PHOTOS": str(self.folder / "photos"),
            "DEMO_DATA": str(self.data),
        }
        with self.said.open("wb") as said:
            return subprocess.Popen(
                [sys.executable, str(RUN)], cwd=self.folder, env=environ, stdin=subprocess.DEVNULL,
                stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def run(self) -> int:
        return self.start().wait(WITHIN)

    def mails(self) -> list[str]:
        return sorted(str(mail["Subject"]) for mail in mailbox.Maildir(self.data / "results" / "mail", create=False))

    def directories(self) -> int:
        return len({path.parent for path in (self.folder / "lib").rglob("*.py")})

    def left(self) -> list[psutil.Process]:
        """Processes that work in our folder: all that the demo starts inherit it."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return pathlib.Path(process.cwd()).is_relative_to(self.folder)
        except psutil.Error:
            return False


@pytest.fixture
def demo(folder: pathlib.Path) -> Iterator[Demo]:
    demo = Demo(folder)
    yield demo
    for process in demo.left():  # none, unless the test is red
        process.kill()


def test_a_small_run_ends_by_itself_and_every_result_is_there(demo: Demo) -> None:
    assert demo.run() == 0, demo.said.read_text()
    summary = demo.said.read_text()
    assert "tasks lost: 0" in summary
    assert "the index, asked for" in summary
    assert len(list((demo.data / "results" / "thumbs").glob("*.png"))) == PICTURES
    assert len(set(demo.mails())) == demo.directories()
    assert demo.left() == []


def test_after_sigkill_it_goes_on_and_loses_nothing(demo: Demo) -> None:
    first = demo.start()
    wait_for(lambda: b" s   index " in demo.said.read_bytes(), "no line of progress", WITHIN)
    first.send_signal(signal.SIGKILL)
    first.wait(WITHIN)
    assert demo.run() == 0, demo.said.read_text()
    assert "goes on with the run" in demo.said.read_text()
    assert "tasks lost: 0" in demo.said.read_text()
    assert len(set(demo.mails())) == demo.directories()
    assert demo.left() == []
