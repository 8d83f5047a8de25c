"""A thousand producers and a thousand consumers connected at once, against ten and ten.

All connections are real. Two processes drive half of them each: every connection has one request under way, sends the
next when the answer is there, and a consumer that gets nothing waits on the queue's list of tokens as a slot does.
"""

import resource
import select
import socket
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import hiredis
from adapter import Client, ConsumerRequests, ProducerRequests, taken, tokens
from depth import put_all
from figures import Plan, Result, middle, together

FEW, MANY = 10, 1000
TASKS = 10  # of a request
DRIVERS = 2
BACKLOG = 20_000  # so that the consumers take full packs whoever is a little faster
LOOK = 0.2


class Connection:
    """One connection and its endless dialogue: a generator that yields what to send and is sent each answer."""

    def __init__(self, path: str, dialogue: Iterator[bytes]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)  # waits where the server is slow to accept
        self.dialogue: Any = dialogue
        self.reader = hiredis.Reader()

    def begin(self) -> None:
        """Sends the first request."""
        self.socket.sendall(next(self.dialogue))

    def heard(self) -> None:
        """Reads what came; a whole answer leads to the next request."""
        self.reader.feed(self.socket.recv(65536))
        answer = self.reader.gets()
        if answer is not False:
            if isinstance(answer, hiredis.ReplyError):
                raise answer
            self.socket.sendall(self.dialogue.send(answer))


def _packed(*words: Any) -> bytes:
    return bytes(hiredis.pack_command(words))


def producer(version: tuple[int, ...], queue: str, done: list[int]) -> Iterator[bytes]:
    """Puts small batches. ``done`` counts what was answered."""
    requests = ProducerRequests(version, queue, TASKS)
    while True:
        stored: Any = yield _packed(*requests.next())
        done[0] += stored


def consumer(version: tuple[int, ...], queue: str, done: list[int]) -> Iterator[bytes]:
    """Settles and takes."""
    requests = ConsumerRequests(version, queue, TASKS)
    wait = _packed("BLPOP", tokens(queue), 3)
    holds = False
    while True:
        answer: Any = yield _packed(*requests.next(holds=holds))
        holds = bool(taken(answer))
        done[1] += taken(answer)
        if not holds:
            yield wait


def drive(path: str, dialogues: list[Iterator[bytes]], warm: float, seconds: float, done: list[int]) -> list[float]:
    """Tasks/s put and taken, by one process, after all connections are warm."""
    connections = [Connection(path, each) for each in dialogues]
    poll = select.epoll()
    places = {each.socket.fileno(): each for each in connections}
    for number, each in places.items():
        poll.register(number, select.EPOLLIN)
        each.begin()
    _serve(poll, places, warm)
    before, began = list(done), time.perf_counter()
    _serve(poll, places, seconds)
    span = time.perf_counter() - began
    for each in connections:
        each.socket.close()
    return [(now - then) / span for now, then in zip(done, before, strict=True)]


def _serve(poll: select.epoll, places: dict[int, Connection], seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for number, _ in poll.poll(LOOK):
            places[number].heard()


def _throughput(plan: Plan, version: tuple[int, ...], each_side: int) -> tuple[float, float]:
    queue = f"crowd-{each_side}"
    path = urllib.parse.unquote(urllib.parse.urlsplit(plan.url).path)
    put_all(plan.url, queue, BACKLOG)
    client = Client(plan.url)
    client.consumer(queue).exchange(0)  # loads the script

    def work(_: int) -> list[float]:
        done = [0, 0]
        makers = (producer, consumer)
        dialogues = [make(version, queue, done) for _ in range(each_side // DRIVERS) for make in makers]
        warm, seconds = (0.3, 0.7) if plan.quick else (1.0, 3.0)
        return drive(path, dialogues, warm, seconds, done)

    rates = together(work, DRIVERS)
    client.drop(queue)
    return sum(rate[0] for rate in rates), sum(rate[1] for rate in rates)


def measure(plan: Plan) -> Result:
    """Total throughput, tasks put and tasks taken."""
    _allow_files(MANY + 256)
    version = Client(plan.url).version
    found: dict[int, list[tuple[float, float]]] = {FEW: [], MANY: []}
    for number in range(1, plan.rounds + 1):
        for each_side, rates in found.items():
            plan.say(f"{each_side:,} producers and {each_side:,} consumers: round {number} of {plan.rounds}")
            rates.append(_throughput(plan, version, each_side))
    few, many = (middle([sum(rate) for rate in found[each]]) for each in (FEW, MANY))
    beside = {
        "tasks/s with few": few,
        "with many": many,
        "put by many": middle([rate[0] for rate in found[MANY]]),
        "taken by many": middle([rate[1] for rate in found[MANY]]),
    }
    return Result(f"{MANY:,} + {MANY:,} connections", many / few, f"x {FEW} + {FEW}", ">= 0.7", beside)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
