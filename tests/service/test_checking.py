"""What a run needs is worked out before it is submitted, as its driver will work it out."""

from types import SimpleNamespace

import pytest

from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.config import SearchSpec, validate
from prunepeft_ray.errors import InputError
from prunepeft_ray.service.preflight import check_submission
from prunepeft_ray.study import StudySpec

SEARCH = validate(SearchSpec, {"model": "packaged:minilm", "task": "packaged:movie", "budget": "1%"}, "search")


def study(**execution):
    axes = {"models": ["packaged:minilm"], "tasks": ["packaged:movie"], "methods": ["prunepeft"]}
    return validate(StudySpec, axes | {"budget": "1%", "execution": execution}, "study")


def cluster(*nodes, grows=False):
    found = [SimpleNamespace(resources=resources) for resources in nodes]
    return SimpleNamespace(address="http://head:8265", nodes=lambda: found, may_grow=lambda: grows)


CPUS = ({"CPU": 1.0}, {"CPU": 2.0})
GPUS = ({"CPU": 0.0}, {"CPU": 8.0, "GPU": 2.0})


def told(*arguments):
    lines = []
    check_submission(*arguments, lines.append)
    return lines


@pytest.mark.parametrize(
    ("nodes", "spec", "workers"),
    [
        (CPUS, SEARCH, None),
        (CPUS, SEARCH, 3),
        (CPUS, study(cpus=2), None),
        (CPUS, study(cpus=1, workers=3), None),
        (GPUS, SEARCH, 2),
        (GPUS, study(workers=2), None),
        (GPUS, study(gpus=0.5, workers=4), None),
    ],
)
def test_what_fits_is_let_through_without_a_word(nodes, spec, workers):
    assert told(cluster(*nodes), spec, workers, Terms()) == []


@pytest.mark.parametrize(
    ("nodes", "spec", "workers", "says"),
    [
        (CPUS, SEARCH, 4, "4 workers need 4 CPUs, but the cluster at http://head:8265 has 3 CPUs on 2 nodes"),
        (CPUS, study(cpus=3), None, "a training job needs 3 CPUs .* at most 2 CPUs on one"),
        (CPUS, study(cpus=2, workers=2), None, "2 workers of 2 CPUs each"),
        (CPUS, study(gpus=1), None, "1 CPU and 1 GPU"),
        (GPUS, SEARCH, 3, "3 workers need 3 GPUs, .* has 8 CPUs and 2 GPUs on 2 nodes"),
        (({"CPU": 0.0},), SEARCH, None, "a worker needs 1 CPU, .* has 0 CPUs: ask"),
    ],
)
def test_what_can_never_fit_is_told_with_what_there_is(nodes, spec, workers, says):
    with pytest.raises(InputError, match=says):
        told(cluster(*nodes), spec, workers, Terms())


def test_an_autoscaler_may_bring_it():
    (line,) = told(cluster({"CPU": 0.0}, grows=True), SEARCH, 4, Terms())
    assert line == (
        "4 workers need 4 CPUs, and the cluster has 0 CPUs now: the job waits until the autoscaler has added nodes"
    )
    # a limit of GPUs says that it is to have some
    (line,) = told(cluster({"CPU": 0.0}, grows=True), SEARCH, None, Terms(gpus=2))
    assert line.startswith("a worker needs 1 GPU, and")


def test_limits_must_let_a_training_job_through():
    with pytest.raises(InputError, match="at most 1 CPU: expected at least 2, which a single job needs"):
        told(cluster(*CPUS), study(cpus=2), None, Terms(cpus=1))
    assert told(cluster(*CPUS), study(cpus=2), None, Terms(cpus=2)) == []
