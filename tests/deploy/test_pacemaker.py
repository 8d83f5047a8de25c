"""The example of a cluster in deploy/pacemaker, as crmsh reads it and pacemaker judges it: in a file, no daemon."""

import os
import pathlib
import subprocess

import pytest

EXAMPLE = pathlib.Path(__file__).parents[2] / "deploy" / "pacemaker" / "cluster.crm"
NODES = range(1, 4)


@pytest.mark.needs("crm", "cibadmin", "crm_verify", "crm_simulate")
def test_the_example_is_loaded_verified_and_starts_one_manager(tmp_path: pathlib.Path) -> None:
    cib = tmp_path / "cib.xml"
    environ = os.environ | {"CIB_file": str(cib), "HOME": str(tmp_path)}

    def run(*words: str) -> str:
        done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    empty = subprocess.run(["cibadmin", "--empty"], capture_output=True, text=True, check=True).stdout
    nodes = "".join(f'<node id="{n}" uname="node{n}"/>' for n in NODES)
    cib.write_text(empty.replace("<cib ", '<cib have-quorum="1" ').replace("<nodes/>", f"<nodes>{nodes}</nodes>"))
    run("crm", "-F", "configure", "load", "update", str(EXAMPLE))  # -F: neither of the agents is installed here
    online = 'in_ccm="true" crmd="online" join="member" expected="member"'
    states = "".join(f'<node_state id="{n}" uname="node{n}" {online}/>' for n in NODES)
    cib.write_text(cib.read_text().replace("<status/>", f"<status>{states}</status>"))
    assert run("crm_verify", "-V", "-x", str(cib)).strip() == ""
    said = run("crm_simulate", "-S", "-x", str(cib))
    assert said.count("* Resource action: qmanager        start on ") == 1
    assert said.count("* Resource action: qmanager        monitor=") == 1
