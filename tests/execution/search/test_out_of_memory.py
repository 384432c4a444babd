"""A job that runs out of memory is tried once more with half the micro-batch, and says so."""

import pytest
import torch
import torch.multiprocessing as mp
from chaos import jobs_before
from execution_toys import answer, job_ids, make_spec, search_here

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.errors import RunError
from prunepeft_ray.execution import Workbench, run_search
from prunepeft_ray.execution.interruptions import BrokenGroupError
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import DistributedGroup, is_out_of_memory
from prunepeft_ray.training import loop as loop_module

KINDS = {
    "a GPU's allocator": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "Python": MemoryError,
    "the CPU's allocator": lambda: torch.empty(10**15),
}


def run_short(monkeypatch, most_parts, kind, from_step=2, only=lambda job: job.test):
    """Let memory run out in some jobs while a batch has no more than that many parts."""
    micro_batch = loop_module._Run._micro_batch

    def short(run, number, indices, batch_size):
        if only(run.job) and run.progress.step >= from_step and run.micro_batches <= most_parts:
            raise KINDS[kind]()
        return micro_batch(run, number, indices, batch_size)

    monkeypatch.setattr(loop_module._Run, "_micro_batch", short)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_short_of_memory_is_tried_with_half_the_micro_batch(monkeypatch, tmp_path, spec, undisturbed, kind):
    run_short(monkeypatch, 2, kind)
    told = []
    search_here(spec, tmp_path / "run", told.append)
    texts = [event.text for event in told if event.type == "message"]
    expected = "final retraining: out of memory with 8 examples at a time; retrying once with half as many"
    assert [text for text in texts if text.startswith(expected)]
    rows = ResultsStore(tmp_path / "run" / "results").read("jobs").set_index("kind")
    usual = ResultsStore(undisturbed[0] / "results").read("jobs").set_index("kind")
    assert rows.loc["final"].micro_batches == 4
    assert set(rows.drop("final").micro_batches) == {2}
    # the same batches, in the same number
    assert rows.loc["final"].steps == usual.loc["final"].steps
    assert rows.loc["final"].train_examples == usual.loc["final"].train_examples
    ours, theirs = answer(tmp_path / "run"), answer(undisturbed[0])
    assert ours["architecture"] == theirs["architecture"]
    assert not list((tmp_path / "run" / "checkpoints").glob("*.split"))


def test_a_job_that_is_short_again_ends_the_search_and_is_not_recorded(monkeypatch, tmp_path, spec, undisturbed):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        run_short(patch, 4, "Python")
        with pytest.raises(
            RunError, match=r"final retraining .* ran out of memory with 4 examples .* resume on"
        ) as caught:
            search_here(spec, path)
    assert "\n" not in str(caught.value)
    assert len(job_ids(path)) == jobs_before(undisturbed[0])["final"]
    # with more memory it ends as ever
    search_here(spec, path, again=True)
    assert answer(path)["jobs"] == answer(undisturbed[0])["jobs"]


def test_micro_batches_of_one_example_cannot_be_halved(monkeypatch, tmp_path, tiny_bert, small_task):
    run_short(monkeypatch, 99, "Python", from_step=0, only=lambda job: True)
    with pytest.raises(RunError, match="ran out of memory with 1 example at a time"):
        search_here(make_spec(tiny_bert, small_task, "training.micro_batches=16"), tmp_path / "run")


def test_other_errors_are_not_taken_for_a_want_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def search_rank(rank, path, meeting, short, told):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    if short and rank == 1:
        with pytest.MonkeyPatch.context() as patch:
            run_short(patch, 2, "Python", only=lambda job: job.test)
            told.put(outcome(path, rank))
    else:
        told.put(outcome(path, rank))


def outcome(path, rank):
    folder = RunFolder.open(path)
    bench = Workbench(load_backbone(folder.spec.model), load_task(folder.spec.task))
    try:
        run_search(folder.spec, folder, bench, DistributedGroup(), lambda event: None)
    except BrokenGroupError as error:
        return rank, f"left: {error.error}"
    except RuntimeError:
        return rank, "was left"
    return rank, "done"


@pytest.mark.system
def test_a_group_that_one_process_leaves_starts_again_with_less(tmp_path, spec):
    path = tmp_path / "run"
    RunFolder.create(path, spec)
    context = mp.get_context("forkserver")
    # once for all four processes
    context.set_forkserver_preload(["torch", "prunepeft_ray.execution.search.run", "prunepeft_ray.backbones.load"])
    for number, expected in ((0, {0: "was left", 1: "left: None"}), (1, {0: "done", 1: "done"})):
        told = context.SimpleQueue()
        meeting = str(tmp_path / f"meeting{number}")
        arguments = (path, meeting, number == 0, told)
        processes = [context.Process(target=search_rank, args=(rank, *arguments)) for rank in (0, 1)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert dict(told.get() for _ in processes) == expected
    rows = ResultsStore(path / "results").read("jobs").set_index("kind")
    assert rows.loc["final"].micro_batches == 4
