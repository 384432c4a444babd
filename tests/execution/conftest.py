"""What the execution tests share: a small task, one undisturbed run of its search, one Ray cluster."""

import pytest
import study_fakes
from chaos import jobs_before
from execution_toys import make_spec, search_here, write_task
from service_bench import running_cluster

from prunepeft_ray.cluster.session import ray_cluster
from prunepeft_ray.methods import METHODS


@pytest.fixture(scope="session")
def small_task(tmp_path_factory):
    """Path of a CSV file."""
    return write_task(tmp_path_factory.mktemp("task") / "small.csv")


@pytest.fixture(scope="session")
def spec(tiny_bert, small_task):
    """The search that all compare with."""
    return make_spec(tiny_bert, small_task)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, spec):
    """Folder of that search, run in this process from beginning to end, and its events."""
    path, events = tmp_path_factory.mktemp("undisturbed") / "run", []
    search_here(spec, path, events.append)
    return path, events


@pytest.fixture(scope="session")
def cluster(s3_server):
    """A Ray cluster of 2 CPUs on this machine, as a search starts it, for all tests; its workers find the buckets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with ray_cluster(None, 2):
            yield


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A local cluster of two nodes of one CPU, for all tests that leave it as it is; :mod:`service_bench`."""
    with running_cluster(tmp_path_factory.mktemp("state"), nodes=2) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed_longer(tmp_path_factory, longer):
    """Folder of the search that a module interrupts, its ``longer``, run in this process from beginning to end."""
    path = tmp_path_factory.mktemp("longer") / "run"
    search_here(longer, path)
    return path


@pytest.fixture(scope="module")
def before(undisturbed_longer):
    """Jobs of that search that are finished when each phase is under way."""
    return jobs_before(undisturbed_longer)


@pytest.fixture
def methods(monkeypatch):
    """Registers toy methods for a test: those of the fakes at once, others when called with ``name=info``."""

    def register(**infos):
        for name, info in infos.items():
            monkeypatch.setitem(METHODS._items, name, info)

    _ = METHODS._installed
    register(**study_fakes.METHODS)
    return register
