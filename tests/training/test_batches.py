"""Into how many parts a batch is split, so that no worker is idle and results stay the same."""

import pytest
import torch

from prunepeft_ray.config import TrainingConfig
from prunepeft_ray.training import batch_parts, default_micro_batches

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "workers", "parts"), [(CPU, 1, 1), (CPU, 2, 2), (CPU, 8, 8), (GPU, 1, 1), (GPU, 8, 1)]
)
def test_jobs_on_cpus_have_a_part_for_each_worker(device, workers, parts):
    assert default_micro_batches(device, workers) == parts


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_on_cpus_the_parts_of_a_run_stay_the_same_however_many_workers_there_are(workers):
    assert batch_parts(TrainingConfig(micro_batches=4), CPU, workers) == 4


@pytest.mark.parametrize(("wanted", "workers", "parts"), [(1, 1, 1), (1, 8, 8), (4, 2, 4)])
def test_on_gpus_every_worker_has_a_part(wanted, workers, parts):
    assert batch_parts(TrainingConfig(micro_batches=wanted), GPU, workers) == parts
