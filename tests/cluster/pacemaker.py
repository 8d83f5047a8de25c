"""Corosync and pacemaker on the nodes of a rack: their settings, what they say of the cluster, what they are told."""

import pathlib
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from cluster.powerswitch import PowerSwitch
from cluster.rack import PATH, Rack
from support.waiting import wait_for

FENCING = pathlib.Path(__file__).with_name("fence_ipmilan")
PROGRAMS = ("corosync", "pacemakerd", "crm", "crm_mon", "ocf-tester", "xmllint")
TOKEN = 1000  # ms without a sign of a node until it is lost
COROSYNC = """\
totem {{
    version: 2
    cluster_name: rack
    transport: knet
    crypto_cipher: none
    crypto_hash: none
    token: {token}
    token_coefficient: 0
}}
quorum {{
    provider: corosync_votequorum
}}
resources {{
    watchdog_device: off
}}
system {{
    move_to_root_cgroup: no
}}
logging {{
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
    timestamp: hires
}}
nodelist {{
{nodes}
}}
"""
NODE = "    node {{\n        name: {name}\n        nodeid: {number}\n        ring0_addr: {address}\n    }}"
# 20 s is how long the first node would wait for others before it decides anything.
AT_FIRST = {"dc-deadtime": "2s", "stonith-enabled": "false"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one node thinks of the cluster."""

    quorum: bool
    online: frozenset[str]
    places: dict[str, tuple[str, ...]]  # resource -> nodes on which it is started
    failed: tuple[str, ...]  # resources with a failure on record
    standby: tuple[str, ...]


class Pacemaker:
    """A cluster whose nodes are on; fencing begins when told so, with all of them there."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack
        self.switch = PowerSwitch(rack)
        lay_out(rack, self.switch.path)
        for name in rack.names:
            rack.on(name)
        self.wait_all_online()

    def close(self) -> None:
        """Nobody can be fenced any more."""
        self.switch.close()

    def wait_all_online(self) -> Seen:
        """What is seen once they are."""

        def seen() -> Seen | None:
            now = self.look()
            return now if now and now.quorum and now.online == set(self.rack.names) else None

        found = wait_for(seen, lambda: f"all nodes online; {self.look()}", 40.0)
        assert found is not None
        return found

    # What is there

    def look(self) -> Seen | None:
        """As a node sees it that is not cut off; None while it knows nothing."""
        awake = self.rack.awake()
        if not awake:
            return None
        try:
            done = self.rack.run(awake[0], "crm_mon", "--one-shot", "--output-as=xml", "--inactive")
        except KeyError:
            return None  # it was switched off meanwhile
        return read(done.stdout) if done.returncode == 0 else None

    # What is told

    def tell(self, *words: str, given: str = "", name: str = "") -> str:
        """A command on this node, by default any that is awake, which must succeed; returns what it says."""
        at = name or self.rack.awake()[0]
        done = self.rack.run(at, *words, given=given)
        assert done.returncode == 0, f"{at}: {' '.join(words)} ends with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def configure(self, text: str) -> None:
        """Lines of crm's language, added to what is configured."""
        self.tell("crm", "configure", "load", "update", "-", given=text)

    def set(self, *, fencing: bool, quorum: str = "stop") -> None:
        """What binds the sides of a split cluster."""
        for key, value in (("no-quorum-policy", quorum), ("stonith-enabled", str(fencing).lower())):
            self.tell("crm_attribute", "--type", "crm_config", "--name", key, "--update", value)

    def forget_failures(self) -> None:
        self.tell("crm_resource", "--cleanup")

    def standby(self, name: str, *, on: bool) -> None:
        self.tell("crm_attribute", "--node", name, "--name", "standby", "--update", "on" if on else "off")


def lay_out(rack: Rack, switch: pathlib.Path) -> None:
    """What nodes boot from: settings, the fence agent, and a cluster's memory with no resources yet."""
    files = rack.folder / "files"
    nodes = [
        NODE.format(name=name, number=number, address=rack.address(name)) for number, name in enumerate(rack.names, 1)
    ]
    put(files / "etc/corosync/corosync.conf", COROSYNC.format(token=TOKEN, nodes="\n".join(nodes)))
    hosts = "".join(f"{rack.address(name)} {name}\n" for name in rack.names)
    put(files / "etc/hosts", f"127.0.0.1 localhost\n{hosts}")
    put(files / "usr/sbin/fence_ipmilan", FENCING.read_text(), mode=0o755)
    put(files / "etc/rack-switch", str(switch))
    empty = subprocess.run(["cibadmin", "--empty"], capture_output=True, text=True, check=True, env={"PATH": PATH})
    memory = ET.fromstring(empty.stdout)
    place = memory.find("configuration/crm_config")
    assert place is not None
    properties = ET.SubElement(place, "cluster_property_set", id="cib-bootstrap-options")
    for key, value in AT_FIRST.items():
        ET.SubElement(properties, "nvpair", id=f"first-{key}", name=key, value=value)
    (rack.folder / "cib.xml").write_bytes(ET.tostring(memory))


def put(path: pathlib.Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def read(document: str) -> Seen:
    """What crm_mon says."""
    root = ET.fromstring(document)
    leader = root.find("summary/current_dc")
    ready = [
        each.get("name", "") for each in root.iterfind("nodes/node")
        if each.get("online") == "true" and each.get("pending") == "false" and each.get("unclean") == "false"
    ]  # fmt: skip
    places = {
        each.get("id", ""): tuple(node.get("name", "") for node in each.iterfind("node"))
        if each.get("role") == "Started" else ()
        for each in root.iterfind(".//resource")
    }  # fmt: skip
    failed = [each.get("op_key", "") for each in root.iterfind("failures/failure")]
    standby = [each.get("name", "") for each in root.iterfind("nodes/node") if each.get("standby") == "true"]
    quorum = leader is not None and leader.get("with_quorum") == "true"
    return Seen(quorum, frozenset(ready), places, tuple(failed), tuple(standby))
