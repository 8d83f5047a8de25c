"""What whole decisions promise, each promise by its name, over clusters that hypothesis makes up."""

from hypothesis import event, given
from hypothesis import strategies as st
from support.plans import Cluster, queue

from qmanager.planning.planner import Memory


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(1, 100)), min_size=1, max_size=12),
    st.lists(st.integers(0, 8), min_size=1, max_size=4),
)
def test_every_cycle_keeps_the_promises_and_the_map_comes_to_rest(
    drawn: list[tuple[int, int, int]], slots: list[int]
) -> None:
    queues = [queue(f"q{i:02}", min_slots=low, priority=priority) for i, (low, _, priority) in enumerate(drawn)]
    servers = {f"s{i}": n for i, n in enumerate(slots)}
    cluster = Cluster(queues, servers, takes=1e9, waiting={f"q{i:02}": n for i, (_, n, _) in enumerate(drawn)})
    least = sum(max(1, low) for low, _, _ in drawn)
    for _ in range(6):
        cluster.cycle()
        assert cluster.heard() == ({each.name for each in queues} if sum(slots) else set())
        assert all(len(cluster.rows[name]) <= n for name, n in servers.items())
        assert least > sum(slots) or all(cluster.own(each.name) >= each.min_slots for each in queues)
    cluster.blind = True  # from here on the input is the same
    for _ in range(30):
        if not cluster.cycle().changes:
            return
    raise AssertionError("the map does not come to rest")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=8),
    st.lists(st.integers(1, 8), min_size=1, max_size=4), st.booleans(), st.data(),
)  # fmt: skip
def test_every_prefix_of_a_plan_planned_anew_comes_to_rest_also_by_another_manager(
    drawn: list[tuple[int, int]], slots: list[int], another: bool, data: st.DataObject
) -> None:
    queues = [queue(f"q{i}", min_slots=low) for i, (low, _) in enumerate(drawn)]
    cluster = Cluster(queues, {f"s{i}": n for i, n in enumerate(slots)}, takes=1e9)
    cluster.waiting = {f"q{i}": n for i, (_, n) in enumerate(drawn)}
    for _ in range(data.draw(st.integers(1, 4))):
        before = {name: list(cluster.rows.get(name, ())) + [()] * 8 for name in cluster.servers}
        changes = cluster.cycle().changes
        for change in changes[: data.draw(st.integers(0, len(changes)))]:
            before[change.server][change.index] = change.after
        cluster.rows = {name: tuple(row[: cluster.servers[name]]) for name, row in before.items()}
        cluster.memory = Memory() if another else cluster.memory
    cluster.blind = True
    while cluster.cycle().changes:
        assert cluster.now < 1100.0
    assert cluster.heard() == {each.name for each in queues}
    fit = sum(max(1, each.min_slots) for each in queues) <= sum(slots)
    event(f"minima fit: {fit}")
    assert not fit or all(cluster.own(each.name) >= each.min_slots for each in queues)


@given(st.integers(5, 12), st.integers(2, 8), st.data())
def test_whichever_fifth_is_lost_an_important_queue_has_all_it_wants_after_the_next_plan(
    servers: int, power: int, data: st.DataObject
) -> None:
    left = (servers - servers // 5) * power
    important = data.draw(st.integers(1, left - 3))
    others = [queue(f"q{i}", min_slots=data.draw(st.integers(0, servers * power // 3))) for i in range(3)]
    cluster = Cluster(
        [queue("urgent", min_slots=important, priority=90), *others], {f"s{i:02}": power for i in range(servers)}
    )
    while cluster.cycle().changes:
        assert cluster.now < 1200.0
    lost = data.draw(st.sets(st.sampled_from(sorted(cluster.servers)), min_size=1, max_size=servers // 5))
    here = sum(cluster.rows[name].count(("urgent",)) for name in lost)
    share, over = divmod(important, servers)
    assert here <= len(lost) * share + min(len(lost), over)
    cluster.servers = {name: n for name, n in cluster.servers.items() if name not in lost}
    event(f"some is lost: {here > 0}")
    cluster.cycle()
    assert cluster.own("urgent") == important
