"""A cluster of a head and one further node, as a process of its own: prints its address and pids, ends with its input.

Each line of its input is a node that joins: its resources, as JSON.

Run with ``RAY_AUTH_MODE=disabled`` and ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0``, so that it keeps to this machine.
"""

import json
import sys

from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

# a lost node is noticed within seconds
SYSTEM = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_timeout_ms": 2000}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": SYSTEM})
    other = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    raylets = [node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid for node in (cluster.head_node, other)]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    for line in sys.stdin:
        cluster.add_node(**json.loads(line))
        cluster.wait_for_nodes()
        print("joined", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
