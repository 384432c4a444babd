"""The test bench of separate hosts: they have addresses of their own and disks as told, and reach each other."""

import json
import subprocess
import sys

import pytest
from service_bench import hosts

from prunepeft_ray.processes import family

PROGRAM = """
import json, os, psutil, ray, sys
from prunepeft_ray.execution.rendezvous import join_group, listen_on_node

def listening():
    return {one.laddr for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN}

@ray.remote(num_cpus=1)
class Member:
    listener = None

    def listen(self):
        self.before = listening()
        self.listener = listen_on_node()
        return self.listener.getsockname()

    def sum_of_ranks(self, rank, address, folder):
        import torch
        before = self.before if self.listener else listening()
        group, total = join_group(rank, 2, address, self.listener), torch.tensor([rank])
        group.sum_(total)
        opened = sorted(one.ip for one in listening() - before)
        return ray.util.get_node_ip_address(), int(total), sorted(os.listdir(folder)), opened

ray.init(address="auto")
address = ray.util.get_node_ip_address()
here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes()}
hosts = [address, *sorted(set(nodes) - {address})]
members = [Member.options(scheduling_strategy=here(nodes[host], soft=False)).remote() for host in hosts]
door = ray.get(members[0].listen.remote())
tasks = [member.sum_of_ranks.remote(rank, door, sys.argv[1]) for rank, member in enumerate(members)]
print("RESULT", json.dumps(ray.get(tasks)))
"""


@pytest.mark.slow
def test_two_hosts_form_a_cluster_and_compute_together_at_their_own_addresses(tmp_path):
    hidden, state = tmp_path / "hidden", tmp_path / "state"
    hidden.mkdir()
    state.mkdir()
    (hidden / "file").touch()
    (tmp_path / "program.py").write_text(PROGRAM)
    with hosts(state, hidden=hidden) as bench:
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--", sys.executable]
        submit += [str(tmp_path / "program.py"), str(hidden)]
        done = subprocess.run(submit, env=bench.env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(done.stdout.partition("RESULT ")[2].splitlines()[0])
        head = bench.cluster.gcs.partition(":")[0]
        other = f"{head.rpartition('.')[0]}.2"
        # the first opens the store and gloo's socket, the other gloo's: each at its own address
        assert result == [[head, 1, ["file"], [head, head]], [other, 1, [], [other]]]
    assert family(bench.cluster.mark) == set()
