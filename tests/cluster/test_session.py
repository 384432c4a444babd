"""Joining a cluster, in a process that may have joined one already."""

import sys
from types import SimpleNamespace

import pytest

from prunepeft_ray.cluster.session import ray_cluster
from prunepeft_ray.errors import InputError


@pytest.mark.parametrize("joined", [False, True])
def test_a_dashboards_address_is_refused_whether_a_cluster_is_joined_or_not(monkeypatch, joined):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: joined))
    with pytest.raises(InputError, match="the address of a dashboard"), ray_cluster("http://head:8265", 1):
        pass
