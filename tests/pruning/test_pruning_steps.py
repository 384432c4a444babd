from dataclasses import replace

import pytest
from pruning_fakes import execute, make_space, make_spec, pa
from toy_jobs import make_template

from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import TrainJob, Work
from prunepeft_ray.pruning import GeneratorMethod, make_job

SPACE = make_space(4)
SPEC = make_spec(threshold=1e-6)
TEMPLATE = replace(make_template(SPEC, SPACE), threshold=1e-6, threshold_quantile=0.2)


def work(seed, label="work"):
    return Work(make_job(TEMPLATE, SPACE.supernet, seed=seed, epochs=1), "candidate", label)


def method_of(*batches, heard=None):
    def steps():
        for batch in batches:
            results = yield batch
            if heard is not None:
                heard.append(sorted(results))

    return GeneratorMethod(steps(), SPACE.supernet)


def tell(method, piece):
    method.tell(piece.job, execute(piece.job))


def test_each_piece_is_handed_out_once_and_a_batch_is_waited_for():
    first, second, third = work(1), work(2), work(3)
    method = method_of((first, second), (third,))
    assert method.ask() == (first, second)
    assert method.ask() == ()
    tell(method, second)
    assert method.ask() == ()
    assert not method.done
    tell(method, first)
    assert method.ask() == (third,)
    assert not method.done
    tell(method, third)
    assert method.done
    assert method.ask() == ()
    assert method.best() == SPACE.supernet


def test_equal_jobs_run_once_in_a_batch_and_across_batches():
    heard = []
    method = method_of((work(1, "a"), work(1, "b"), work(2)), (work(2), work(1)), (work(1), work(3)), heard=heard)
    assert method.ask() == (work(1, "a"), work(2))
    tell(method, work(1))
    tell(method, work(2))
    # the second batch is known altogether, the third in part
    assert method.ask() == (work(3),)
    tell(method, work(3))
    assert method.done
    one, two, three = (work(seed).job.id for seed in (1, 2, 3))
    assert heard == [sorted((one, two)), sorted((one, two)), sorted((one, three))]


def test_empty_batches_are_passed_over():
    method = method_of((), (work(1),), ())
    assert method.ask() == (work(1),)
    tell(method, work(1))
    assert method.done
    assert method_of().done


def test_unknown_and_repeated_tells_are_errors():
    method = method_of((work(1), work(2)))
    with pytest.raises(ValueError, match="was not handed out"):
        tell(method, work(1))
    method.ask()
    with pytest.raises(ValueError, match="was not handed out"):
        tell(method, work(3))
    tell(method, work(1))
    with pytest.raises(ValueError, match="has already been reported"):
        tell(method, work(1))
    assert not method.done
    tell(method, work(2))
    assert method.done


def test_a_failed_job_is_an_error_and_may_be_told_again():
    method = method_of((work(1, "round 2/3"),))
    method.ask()
    failed = replace(execute(work(1).job), status="failed", reason="out of memory")
    with pytest.raises(RunError, match=r"round 2/3 \(job \w{16}\) failed: out of memory"):
        method.tell(work(1).job, failed)
    tell(method, work(1))
    assert method.done


def test_a_search_job_runs_its_epochs_to_the_end():
    job = make_job(TEMPLATE, SPACE.supernet, seed=5, epochs=3, collect=["weight"], train_size=100, evaluate="none")
    assert (job.training.epochs, job.training.patience) == (3, None)
    assert (job.seed, job.train_size, job.evaluate, job.test, job.collect) == (5, 100, "none", False, ("weight",))
    assert job.training.model_copy(update={"epochs": 20, "patience": 5}) == TEMPLATE.training


def test_a_final_job_has_the_full_recipe_and_the_template_has_the_rest():
    smaller = SPACE.supernet.without(pa(0))
    job = make_job(replace(TEMPLATE, train_size=70), smaller, seed=5, test=True)
    assert job.training == TEMPLATE.training
    assert (job.architecture, job.train_size, job.evaluate, job.test, job.collect) == (smaller, 70, "dev", True, ())
    assert (job.model_fingerprint, job.task_fingerprint, job.metric) == ("mf", "tf", "accuracy")


@pytest.mark.parametrize(
    ("collect", "fixed", "settings"),
    [
        (("weight",), 1e-6, (None, TrainJob.threshold_quantile)),
        (("threshold",), 1e-6, (1e-6, TrainJob.threshold_quantile)),
        (("threshold",), None, (None, 0.2)),
    ],
)
def test_a_job_says_nothing_that_does_not_influence_it(collect, fixed, settings):
    job = make_job(replace(TEMPLATE, threshold=fixed), SPACE.supernet, seed=1, collect=collect)
    assert (job.threshold, job.threshold_quantile) == settings
