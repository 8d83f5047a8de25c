"""The agent and the configuration that deploy/ ships, judged by the tools of pacemaker on a node."""

from cluster.rack import STORE
from cluster.site import PORT, PROGRAM, Site

AGENT = "/usr/lib/ocf/resource.d/qslots/qmanager"
OWN = "/run/ocf-tester"  # beside the manager of the cluster, with a database of its own


def test_ocf_tester_finds_nothing_wrong_with_the_agent(site: Site) -> None:
    node = next(name for name in site.rack.names if name != site.last.place[0])
    site.cluster.tell("mkdir", "-m", "700", OWN, name=node)
    settings = f"queue_servers: {{main: redis://{STORE}:{PORT}/1}}\n"
    site.cluster.tell("tee", f"{OWN}/settings.yml", given=settings, name=node)
    given = {"binary": PROGRAM, "config": f"{OWN}/settings.yml", "runtime_dir": f"{OWN}/manager", "user": "qslots"}
    options = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
    said = site.cluster.tell("ocf-tester", "-v", "-n", "probe", *options, AGENT, name=node)
    assert f"{AGENT} passed all tests" in said


def test_crm_verify_finds_nothing_wrong_with_the_cluster(site: Site) -> None:
    said = site.rack.run(site.rack.awake()[0], "crm_verify", "--live-check", "-VV")
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
