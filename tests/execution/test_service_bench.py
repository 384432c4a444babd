"""The test bench of separate hosts: they have addresses of their own and disks as told, and reach each other."""

import json
import subprocess
import sys

from service_bench import hosts

from prunepeft_ray.execution.marked import family

PROGRAM = """
import json, os, ray, sys
from pathlib import Path

@ray.remote(num_cpus=1)
def sum_of_ranks(rank, address, folder):
    import torch
    from torch import distributed
    distributed.init_process_group("gloo", f"tcp://{address}:29500", rank=rank, world_size=2)
    total = torch.tensor([rank])
    distributed.all_reduce(total)
    seen = sorted(os.listdir(folder))
    return ray.util.get_node_ip_address(), int(total), seen

ray.init(address="auto")
address = ray.util.get_node_ip_address()
here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes()}
ranks = [address, *sorted(set(nodes) - {address})]
tasks = [
    sum_of_ranks.options(scheduling_strategy=here(nodes[host], soft=False)).remote(rank, address, sys.argv[1])
    for rank, host in enumerate(ranks)
]
print("RESULT", json.dumps(ray.get(tasks)))
"""


def test_two_hosts_form_a_cluster_and_compute_together(tmp_path):
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
        assert result == [[head, 1, ["file"]], [other, 1, []]]
    assert family(bench.cluster.mark) == set()
