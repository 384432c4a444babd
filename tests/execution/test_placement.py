"""Where a run is computed: by the number of workers that is wanted, and the amount of work."""

import pytest
import torch

from prunepeft_ray.execution import placement
from prunepeft_ray.execution.placement import RAY_SECONDS, choose_placement

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    monkeypatch.setattr(placement, "available_cpus", lambda: 8)
    monkeypatch.setattr(placement, "_flops_per_second", lambda device: 1e9)


def never():
    raise AssertionError("the work was estimated")


@pytest.mark.parametrize(("workers", "in_process"), [(1, True), (2, False), (8, False)])
def test_a_number_of_workers_decides_without_a_word(workers, in_process):
    chosen = choose_placement(workers, CPU, 2, never)
    assert (chosen.in_process, chosen.reason) == (in_process, "")


def test_two_workers_pay_once_they_save_more_than_the_start_of_ray_takes():
    # two workers at 0.85 of their sum take 1 / 1.7 of the time, and save 7/17 of it
    saving = RAY_SECONDS * 17 / 7
    small = choose_placement(None, CPU, 2, lambda: 0.99 * saving * 1e9)
    assert small.in_process
    assert small.reason == "about 36 s of training: running in this process, which takes less time than starting Ray"
    large = choose_placement(None, CPU, 2, lambda: 1.01 * saving * 1e9)
    assert not large.in_process
    assert large.reason == "about 37 s of training: starting Ray with 2 CPU workers"


def test_more_workers_pay_earlier():
    saving = RAY_SECONDS / (1 - 1 / (0.85 * 8))
    assert choose_placement(None, CPU, None, lambda: 0.99 * saving * 1e9).in_process
    assert not choose_placement(None, CPU, None, lambda: 1.01 * saving * 1e9).in_process


def test_on_a_single_cpu_nothing_is_estimated(monkeypatch):
    monkeypatch.setattr(placement, "available_cpus", lambda: 1)
    chosen = choose_placement(None, CPU, 2, never)
    assert (chosen.in_process, chosen.reason) == (True, "running in this process: there is one CPU")


def test_the_speed_of_this_machine_is_measured(monkeypatch):
    monkeypatch.undo()
    assert 1e8 < placement._flops_per_second(CPU) < 1e13
