import math
import random

import numpy as np
import pytest
from baseline_toys import make_problem
from botorch.acquisition.multi_objective import logei

from prunepeft_baselines.autopeft import AutoPEFTOptions
from prunepeft_baselines.autopeft_search import EVALUATIONS, Proposer, choose_fit, local_search, reference_point
from prunepeft_baselines.autopeft_space import AlignedCoding, OwnCoding

RNG_SEED = 0
FIT = choose_fit(AutoPEFTOptions(surrogate="gp", arithmetic="closed-form"))


class Gains:
    """A function of codes that keeps count of how it is called."""

    def __init__(self, gain):
        self.gain = gain
        self.batches = []

    def __call__(self, codes):
        self.batches.append(list(codes))
        return [self.gain(code) for code in codes]

    @property
    def asked(self):
        return [code for batch in self.batches for code in batch]


def weighted(code):
    return sum((place + 1) * on for place, on in enumerate(code))


def coding(layers=6):
    return AlignedCoding(make_problem(layers=layers, kinds=("PA",), budget=256 * layers // 2))


def test_the_optimum_found_is_proposed_and_not_the_start_of_the_search():
    gains = Gains(weighted)
    start = (1, 1, 1, 0, 0, 0)
    found = local_search(coding(), gains, [start], {start}, random.Random(RNG_SEED))
    assert found == (0, 0, 0, 1, 1, 1)


def test_what_is_proposed_is_the_best_of_all_that_was_looked_at():
    gains = Gains(lambda code: math.sin(37 * weighted(code)))
    space = coding(layers=8)
    seen = {space.draw(random.Random(seed)) for seed in range(20)}
    found = local_search(space, gains, list(seen), seen, random.Random(RNG_SEED))
    assert gains.gain(found) == max(map(gains.gain, gains.asked))


def test_nothing_seen_is_looked_at_or_proposed_and_nothing_is_evaluated_twice():
    gains = Gains(weighted)
    space = coding()
    seen = {(0, 0, 0, 1, 1, 1), (0, 0, 1, 0, 1, 1)}
    found = local_search(space, gains, list(seen), seen, random.Random(RNG_SEED))
    assert weighted(found) == 13
    assert not seen & set(gains.asked)
    assert len(gains.asked) == len(set(gains.asked))


def test_neighbours_of_all_climbs_are_evaluated_together_within_the_limit():
    problem = make_problem(layers=40)
    space = AlignedCoding(problem)
    gains = Gains(lambda code: random.Random(str(code)).random())
    front = [space.draw(random.Random(seed)) for seed in range(30)]
    local_search(space, gains, front, set(front), random.Random(RNG_SEED))
    assert 700 < len(gains.batches[0]) <= 800  # ten starts of eighty neighbours
    assert len(gains.asked) <= EVALUATIONS


def test_without_gain_or_neighbour_there_is_no_proposal():
    space = coding()
    assert local_search(space, Gains(lambda code: -math.inf), [], (), random.Random(RNG_SEED)) is None
    only = AlignedCoding(make_problem(layers=1, kinds=("PA",), budget=256))
    assert local_search(only, Gains(weighted), [(1,)], {(1,)}, random.Random(RNG_SEED)) is None


def test_the_reference_point_is_a_tenth_of_the_range_below_the_worst_of_the_initial_design():
    savings = -np.array([100.0, 300.0, 200.0, 900.0])
    # metric 0.5 - 0.1 x 0.2; 300 parameters + 0.1 x 200; what came later does not count
    assert reference_point([0.7, 0.5, 0.6, 0.1], savings, 3) == pytest.approx((0.48, -320))


def test_a_metric_below_zero_and_failures_do_not_turn_the_reference_point_round():
    savings = -np.array([100.0, 300.0])
    assert reference_point([-0.7, -0.5], savings, 2)[0] == pytest.approx(-0.72)
    assert reference_point([-0.5, -math.inf], savings, 2)[0] < -0.5
    assert reference_point([-math.inf, -math.inf, 0.2, 0.4], np.tile(savings, 2), 2)[0] == pytest.approx(0.18)


def test_a_design_without_range_still_has_something_worse_than_it():
    quality, saving = reference_point([0.5, 0.5, 0.6], -np.array([100.0, 100.0, 100.0]), 2)
    assert quality < 0.5
    assert saving < -100


def test_the_reference_point_is_the_same_for_every_problem_and_every_time():
    values, savings = [0.7, 0.5, 0.6], -np.array([100.0, 300.0, 200.0])
    assert len({reference_point(values, savings, 3) for _ in range(4)}) == 1
    assert all(part < 0 for part in reference_point([-v for v in values], savings, 3))


@pytest.mark.parametrize("objectives", ["pareto", "single"])
@pytest.mark.parametrize("make", [AlignedCoding, OwnCoding])
def test_proposals_are_new_valid_and_different(make, objectives):
    space = make(make_problem(layers=4, budget=1100))
    rng = random.Random(RNG_SEED)
    values = {code: rng.random() for code in space.initial(12, rng)}
    values[next(iter(values))] = -math.inf
    proposed = Proposer(space, FIT, objectives, seed=1).propose(values, 12, 4)
    assert len(set(proposed)) == 4
    assert not set(proposed) & set(values)
    assert all(map(space.valid, proposed))


def test_without_two_different_values_proposals_are_random():
    space = coding()
    failed = dict.fromkeys(space.initial(4, random.Random(RNG_SEED)), -math.inf)
    proposer = Proposer(space, FIT, "pareto", seed=1)
    for values in (failed, failed | {next(iter(failed)): 0.5}):
        proposed = proposer.propose(values, 4, 3)
        assert len(set(proposed) - set(values)) == 3


def test_all_costs_being_equal_does_not_stop_the_search_from_learning():
    space = AlignedCoding(make_problem(layers=16, kinds=("PA",), budget=256))  # one slot, whichever
    values = {tuple(int(i == j) for j in range(16)): float(i == 3) + 0.01 * i for i in range(8)}
    assert len(Proposer(space, FIT, "pareto", seed=1).propose(values, 8, 4)) == 4


@pytest.mark.parametrize("surrogate", ["gp", "saas"])
def test_botorch_fits_the_surrogate_unless_asked_otherwise(surrogate):
    assert choose_fit(AutoPEFTOptions(surrogate=surrogate)).__module__ == "prunepeft_baselines.botorch_surrogate"
    ours = choose_fit(AutoPEFTOptions(surrogate=surrogate, arithmetic="closed-form"))
    assert ours.__module__ != "prunepeft_baselines.botorch_surrogate"


def test_proposals_need_no_compiler(monkeypatch):
    monkeypatch.setattr(logei, "_try_load_fused_kernel", lambda: pytest.fail("BoTorch compiles C++"))
    space = coding(layers=4)
    values = {code: weighted(code) / 10 for code in space.initial(6, random.Random(RNG_SEED))}
    assert (
        len(Proposer(space, choose_fit(AutoPEFTOptions(surrogate="gp")), "pareto", seed=1).propose(values, 6, 2)) == 2
    )
