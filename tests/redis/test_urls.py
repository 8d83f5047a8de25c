"""Every kind of URL reaches a real server: a port, TLS, a unix socket; and what is wrong with one is said."""

import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import servers
from support.waiting import wait_for

from qslots.embedded import die_with_parent
from qslots.errors import QueueServerDown
from qslots.queueserver import QueueServer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a key and a certificate of 127.0.0.1 that vouches for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *words.split(), "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@contextmanager
def listening(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Debian's server with these options; the bundled ones are built without TLS."""
    binary = servers.find("path")
    if binary.missing:
        pytest.skip(binary.missing)
    command = [binary.path, *options, "--save", "", "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def version(url: str) -> tuple[int, ...] | None:
    """The server's version, None while it does not answer."""
    try:
        return QueueServer(url, name="t").version()
    except QueueServerDown:
        return None


def test_a_port_and_a_password() -> None:
    port = servers.free_port()
    with listening("--port", str(port), "--requirepass", "secret"):
        assert wait_for(lambda: version(f"redis://:secret@127.0.0.1:{port}/0"), "the server to answer") >= (6, 2)
        with pytest.raises(QueueServerDown) as refused:
            QueueServer(f"redis://:wrong@127.0.0.1:{port}/0", name="t").version()
        assert "wrong@" not in str(refused.value)


def test_tls_with_a_certificate_that_is_checked(certificate: pathlib.Path) -> None:
    port = servers.free_port()
    cert, key = str(certificate / "cert.pem"), str(certificate / "key.pem")
    tls = ["--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no"]
    with listening("--port", "0", "--tls-ca-cert-file", cert, *tls):
        good = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}"
        assert wait_for(lambda: version(good), "the server to answer over TLS") >= (6, 2)
        assert QueueServer(good, name="t").put("q", "h", b"\0\0\0\0\x01h\x00", ["a"], [b"\1\x80"]) == 1
        with pytest.raises(QueueServerDown, match=r"(?i)certificate"):
            QueueServer(f"rediss://127.0.0.1:{port}/0", name="t").version()
