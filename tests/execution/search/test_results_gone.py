"""Results that are deleted or damaged behind a run's back: it says so, and a resume computes what is missing."""

import shutil

import pytest
from execution_toys import answer, assert_same_answer, job_ids, search_here

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution import resume_search
from prunepeft_ray.execution.search.start import lost_results
from prunepeft_ray.results import KEYED_BY_JOB, RunFolder

LACKS = r"^\S+\.parquet.*, needed for the answer, is missing from \S+results .*'prunepeft resume \S+'$"


class At:
    """Does something when the final training starts, and notes which jobs start."""

    def __init__(self, action=lambda: None):
        self.action, self.started = action, []

    def __call__(self, event):
        if event.type == "start":
            self.started.append(event.job_id)
            if event.kind == "final":
                self.action()


def delete_all(path):
    shutil.rmtree(path / "results")


def delete_one(table):
    def delete(path):
        next((path / "results" / table).glob("[!.]*.parquet")).unlink()

    return delete


@pytest.mark.parametrize("table", ["", *KEYED_BY_JOB, "decisions"])
def test_a_search_whose_results_are_deleted_meanwhile_gives_no_answer_and_is_resumed(
    tmp_path, spec, undisturbed, table
):
    path = tmp_path / "run"
    delete = delete_one(table) if table else delete_all
    with pytest.raises(RunError, match=LACKS):
        search_here(spec, path, At(lambda: delete(path)))
    assert not RunFolder(path).finished
    assert not (path / "adapter").exists()
    again = At()
    search_here(spec, path, again, again=True)
    whole = len(job_ids(undisturbed[0]))
    assert len(again.started) == {"": whole - 1, "decisions": 0}.get(table, 1)
    assert_same_answer(answer(path), answer(undisturbed[0]))


def test_a_search_whose_results_are_damaged_meanwhile_gives_no_answer(tmp_path, spec):
    path = tmp_path / "run"

    def damage():
        next((path / "results" / "epochs").glob("[!.]*.parquet")).write_bytes(b"PAR1")

    with pytest.raises(RunError, match=r"epochs\S+ is missing or damaged .*delete \S+, then 'prunepeft resume'"):
        search_here(spec, path, At(damage))
    assert not RunFolder(path).finished


def test_a_finished_search_knows_what_it_rests_on(tmp_path, undisturbed):
    path = shutil.copytree(undisturbed[0], tmp_path / "run")
    told = []
    assert lost_results(RunFolder(path)) == []
    resume_search(path, lambda event: told.append(event.text))
    assert told == [f"{path} is finished; there is nothing to resume"]
    gone = sorted(job_ids(path))[0]
    (path / "results" / "scores" / f"{gone}.parquet").unlink()
    assert lost_results(RunFolder(path)) == [f"scores/{gone}"]
