"""Everything private of Ray that the package relies on, in one place: no other module may name it.

- ``node`` (imports Ray only when called): the node and cluster that this process has joined.
- ``train`` and ``tune`` (import them only when Ray is configured): Ray Train's and Ray Tune's insides.
- ``autoscaling``: the report of the autoscaler.
- ``wording``: names and texts of Ray's own that no constant of its public API holds.

Each has a contract test in ``tests/execution/test_private_ray.py``; ``docs/ray.md`` says how to raise Ray's version.
All of them are as in Ray 2.60, the only version that they have been tried with.
"""
