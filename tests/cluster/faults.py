"""What may befall the manager or its node, as tests and bench do it; it has happened when its function returns."""

from collections.abc import Callable

from cluster.site import Site


def kill_daemon(site: Site) -> None:
    node, pid = site.last.place
    site.cluster.tell("kill", "-KILL", pid, name=node)


def stop_daemon(site: Site) -> None:
    """It lives, and does nothing."""
    node, pid = site.last.place
    site.cluster.tell("kill", "-STOP", pid, name=node)


def power_off(site: Site) -> None:
    site.rack.off(site.last.place[0])


def freeze(site: Site) -> None:
    site.rack.freeze(site.last.place[0])


def cut_from_nodes(site: Site) -> None:
    """It still reaches the queue server."""
    site.rack.cut(site.last.place[0], "ring")


def cut_from_all(site: Site) -> None:
    site.rack.cut(site.last.place[0], "ring", "store")


def standby(site: Site) -> None:
    site.cluster.standby(site.last.place[0], on=True)


def kill_corosync(site: Site) -> None:
    site.cluster.tell("sh", "-c", "kill -KILL $(pidof corosync)", name=site.last.place[0])


FAULTS: dict[str, Callable[[Site], None]] = {
    "daemon killed": kill_daemon,
    "daemon stopped (SIGSTOP)": stop_daemon,
    "node switched off": power_off,
    "node frozen": freeze,
    "node cut off from the others": cut_from_nodes,
    "node cut off from all": cut_from_all,
    "corosync killed": kill_corosync,
    "node on standby": standby,
}
MOVES = frozenset(FAULTS) - {"daemon killed", "daemon stopped (SIGSTOP)"}  # to another node, whatever the agent does
FENCED = MOVES - {"node on standby"}  # the node is switched off before another takes over
