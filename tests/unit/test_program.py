"""How our programs end when nobody wants to hear more: with a pipe that nobody reads, a full disk, ^C."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from qmanager.admin.cli import main as qslots
from qmanager.cli import main as qmanager
from qmaster.cli import main as qmaster
from qslots.program import Program

CODE = """\
import click
import os
import signal
from qslots.program import Program

@click.group(cls=Program)
def main(): ...

@main.command()
def echo():
    click.echo("word " * 9999)

@main.command()
def sign():
    click.echo("▼ é")

@main.command("print")
def print_():
    print("word", end="")

@main.command()
def wait():
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()

@main.command()
def read():
    open("/proc/self/mem", "rb").read()

main(prog_name="it")
"""


def ended(word: str, out: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, word], stdout=out, stderr=subprocess.PIPE, text=True, check=False, timeout=30,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    return done.returncode, done.stderr


def test_all_three_end_alike() -> None:
    assert all(isinstance(main, Program) for main in (qslots, qmanager, qmaster))


@pytest.mark.parametrize("word", ["echo", "print", "--help"])
def test_a_reader_that_has_gone_ends_it_without_a_word(word: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    assert ended(word, theirs) == (141, "")
    os.close(theirs)


@pytest.mark.parametrize("word", ["echo", "print", "--help"])
def test_a_full_disk_is_told_in_one_line(word: str) -> None:
    with pathlib.Path("/dev/full").open("w") as full:
        assert ended(word, full.fileno()) == (1, "it: the output cannot be written: No space left on device\n")


def test_what_a_terminal_has_no_sign_for_is_written_in_another_way() -> None:
    latin = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", CODE, "sign"], capture_output=True, check=False, timeout=30, env=latin)
    assert (done.returncode, done.stdout) == (0, b"\\u25bc \xe9\n")


def test_an_interrupt_ends_it_without_a_word_and_other_faults_are_not_hidden() -> None:
    assert ended("wait", subprocess.DEVNULL) == (130, "")
    code, said = ended("read", subprocess.DEVNULL)
    assert code == 1 and "Traceback" in said
