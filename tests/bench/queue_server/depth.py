"""What a queue's length costs: server time of a take from 1,000 to ten million queued tasks, and bytes a task."""

import shutil
import tempfile

import psutil
from adapter import Client, made, records_of
from figures import Plan, Result, middle, spent, together

SIZE = 100
DEPTHS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
MEMORY, DISK = 600, 300  # bytes a task that must be free before a queue is filled; the hash tables double as they grow
FILL = 1000
TAKES = 5  # a run takes half of the shortest queue, then it is filled up again


def measure(plan: Plan) -> list[Result]:
    """Queues of all depths stand side by side, and rounds go from one to the next."""
    wanted = [depth for depth in DEPTHS if depth <= plan.deepest]
    client = Client(plan.url)
    lacks = {depth: _filled(plan, client, depth) for depth in wanted}
    filled = [depth for depth in wanted if not lacks[depth]]
    costs: dict[int, list[float]] = {depth: [] for depth in filled}
    rounds = plan.rounds * (4 if plan.quick else 10)
    plan.say(f"takes of {SIZE} tasks from each depth, {rounds} rounds")
    for _ in range(rounds):
        for depth in filled:
            costs[depth].append(_takes(client, depth))
    for depth in filled:
        client.drop(_queue(depth))
    return [_result(depth, costs, lacks[depth]) for depth in wanted]


def bytes_a_task(plan: Plan) -> Result:
    """What one more task of a small record adds to used_memory."""
    tasks = 20_000 if plan.quick else 200_000
    plan.say(f"memory of {tasks:,} tasks")
    client = Client(plan.url)
    put_all(plan.url, "bytes", SIZE)  # the keys and the scripts are there
    before = _used(client)
    put_all(plan.url, "bytes", tasks)
    used = _used(client) - before
    client.drop("bytes")
    record = len(records_of(made(1))[0])
    return Result("a queued task", used / tasks, "bytes", beside={"its record": record})


def put_all(url: str, queue: str, tasks: int, processes: int = 2) -> None:
    """Fills a queue fast."""

    def work(number: int) -> None:
        client = Client(url)
        left = tasks // processes + (tasks % processes if number == 0 else 0)
        while left:
            client.put(queue, made(min(FILL, left)))
            left -= min(FILL, left)

    together(work, processes)


def _queue(depth: int) -> str:
    return f"depth-{depth}"


def _filled(plan: Plan, client: Client, depth: int) -> str:
    """Fills a queue; what is lacking if it cannot be."""
    if lacks := lacking(depth):
        return lacks
    plan.say(f"filling a queue of {depth:,} tasks")
    portion = 1_000_000
    for start in range(0, depth, portion):
        put_all(plan.url, _queue(depth), min(portion, depth - start))
        if start:
            plan.say(f"  {client.stored(_queue(depth)):,}")
    return ""


def lacking(tasks: int) -> str:
    """What this machine lacks to hold that many more tasks, or ""."""
    free, room = psutil.virtual_memory().available, shutil.disk_usage(tempfile.gettempdir()).free
    if free < tasks * MEMORY:
        return f"{free / 1e9:.1f} GB of memory are free, {tasks * MEMORY / 1e9:.1f} GB are wanted"
    if room < tasks * DISK:
        return f"{room / 1e9:.1f} GB of disk are free, {tasks * DISK / 1e9:.1f} GB are wanted"
    return ""


def _takes(client: Client, depth: int) -> float:
    """µs a task that the server spends on a few takes, each of which settles the one before."""
    consumer = client.consumer(_queue(depth))
    before = spent(client.redis)
    got = sum(consumer.exchange(SIZE) for _ in range(TAKES))
    used = spent(client.redis).since(before)
    consumer.exchange(0)
    client.put(_queue(depth), made(got))
    return used.scripts / got


def _used(client: Client) -> int:
    return int(client.redis.info("memory")["used_memory"])


def _result(depth: int, costs: dict[int, list[float]], lacks: str) -> Result:
    what = f"take + settle of {SIZE} from {depth:,}"
    if lacks:
        return Result(what, None, "", note=f"skipped: {lacks}")
    cost = middle(costs[depth])
    part = cost / middle(costs[DEPTHS[0]])
    return Result(what, cost, "server µs/task", "<= 5 x at 1,000" if depth > DEPTHS[0] else "", {"x at 1,000": part})
