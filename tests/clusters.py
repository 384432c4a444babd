"""Ray clusters that are started once for all tests of a process, and the marks of tests that use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

SHARED = ("cluster", "bench")
"""The fixtures below."""

SYSTEM = ("browser", "bucket", "s3_server")
"""Fixtures of other programs; a parameter of the name counts as well."""


@pytest.fixture(scope="session")
def cluster(s3_server) -> Iterator[None]:
    """A Ray cluster of 2 CPUs on this machine, as a search starts it; its workers find the buckets."""
    from prunepeft_ray.cluster.session import ray_cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with ray_cluster(None, 2):
            yield


@pytest.fixture(scope="session")
def bench(tmp_path_factory) -> Iterator:
    """A local cluster of two nodes of one CPU, a :class:`service_bench.Bench`, to be left as it is."""
    from service_bench import running_cluster

    with running_cluster(tmp_path_factory.mktemp("state"), nodes=2) as running:
        yield running


def mark_and_sort(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they use, and begin with the files that start Ray, which take longest."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        used = {*item.fixturenames, *(value for value in parameters if isinstance(value, str))}
        if used.intersection(SHARED):
            item.add_marker("ray")
        if used.intersection(SYSTEM):
            item.add_marker("system")
    with_ray = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in with_ray)
