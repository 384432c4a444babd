"""What the execution tests share: one undisturbed run of a search of a small task, and toy methods."""

import pytest
import study_fakes
from chaos import jobs_before
from execution_toys import make_spec, search_here

from prunepeft_ray.execution import placement, session
from prunepeft_ray.execution.search import start as search_start
from prunepeft_ray.execution.study import start as study_start
from prunepeft_ray.methods import METHODS


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


@pytest.fixture
def not_joined(monkeypatch):
    """Runs start as in a process that has joined no cluster, whatever other tests have left it in."""
    for module in (session, placement, search_start, study_start):
        monkeypatch.setattr(module, "is_joined", lambda: False)
