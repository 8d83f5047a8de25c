"""One site for the session, settled before each test; the times of failovers are told at the end."""

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from cluster.pacemaker import PROGRAMS
from cluster.rack import lacking
from cluster.site import GOAL, Site

import qslots.client
import qslots.tasks
from qslots.handlers import Registry

TIMES = pytest.StashKey[dict[str, float]]()


@pytest.fixture(scope="session")
def cluster_folder(request: pytest.FixtureRequest) -> Iterator[pathlib.Path]:
    """Skips where there can be no cluster. Kept, and named, when a test is red."""
    if reason := lacking(PROGRAMS):
        pytest.skip(reason)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qc-", dir="/tmp"))
    folder.chmod(0o755)  # pacemaker's daemons have a user of their own
    before = request.session.testsfailed
    yield folder
    if request.session.testsfailed > before:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def whole_site(cluster_folder: pathlib.Path) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qslots.tasks, "REGISTRY", Registry())
        patch.setattr(qslots.client, "_current", None)
        site = Site(cluster_folder)
        yield site
        site.stop()


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    """Whatever a test does, no map may be accepted that should not be."""
    whole_site.settle()
    yield whole_site
    assert whole_site.publishes.faults() == []


@pytest.fixture
def times(request: pytest.FixtureRequest) -> dict[str, float]:
    """Seconds from a fault to a new map, to be told."""
    return request.config.stash.setdefault(TIMES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for fault, seconds in config.stash.get(TIMES, {}).items():
        terminalreporter.write_line(f"{fault:<32} new map after {seconds:5.2f} s (goal {GOAL:g})")
