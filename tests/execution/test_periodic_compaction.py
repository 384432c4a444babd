import threading
import time

import pytest

from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.session import attempting
from prunepeft_ray.results import Request, ResultsStore, RunFolder
from prunepeft_ray.results.compaction_thread import GROWTH, compacting


class Store:
    """A store that counts, and may fail."""

    def __init__(self, error=None):
        self.error, self.merged, self.twice = error, [], threading.Event()

    def compact(self, growth=0.0):
        self.merged.append(growth)
        if len(self.merged) == 2:
            self.twice.set()
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, RunError("the disk is full"), OSError("gone")])
def test_results_are_merged_now_and_then_and_at_the_end_whatever_happens(error):
    store = Store(error)
    with compacting(store, 0.001):
        assert store.twice.wait(10)
    assert store.merged[:-1] == [GROWTH] * (len(store.merged) - 1)
    assert store.merged[-1] == 0.0


@pytest.mark.parametrize("end", [KeyboardInterrupt, RunError])
def test_a_run_that_is_interrupted_is_merged_too(end):
    store = Store()
    with pytest.raises(end), compacting(store):
        raise end
    assert store.merged == [0.0]


def test_after_a_long_merge_the_pause_is_long():
    class Slow(Store):
        def compact(self, growth=0.0):
            super().compact(growth)
            time.sleep(0.05)

    store = Slow()
    with compacting(store, 0.001):
        # fifty times 0.05 s have not passed
        assert not store.twice.wait(0.5)
    assert store.merged == [GROWTH, 0.0]


def test_a_run_leaves_its_results_merged(tmp_path, monkeypatch):
    monkeypatch.setattr("prunepeft_ray.results.compaction.MIN_FILES", 2)
    spec = SearchSpec.model_validate({"model": "packaged:minilm", "task": "packaged:movie", "budget": "1%"})
    folder = RunFolder.create(tmp_path / "run", spec)
    with attempting(folder, lambda event: None):
        for position in range(3):
            ResultsStore(folder.results).commit_request(Request("r", "m", "t", "b", 0, position, "j", "round", ""))
    assert len(list((folder.results / "merged" / "requests").glob("*.parquet"))) == 1
    assert ResultsStore(folder.results).read("requests").position.tolist() == [0, 1, 2]
