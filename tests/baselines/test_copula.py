import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_baselines.copula import GaussianCopula

WORST, BEST = -3.719016, 3.719016  # normal quantiles of 1e-4 and 1 - 1e-4


def test_the_empirical_distribution_becomes_normal_quantiles():
    # shares 1/4, 2/4, 3/4, 4/4, the last one clamped
    assert GaussianCopula([5, 1, 3, 100])([1, 3, 5, 100]) == pytest.approx([-0.674490, 0, 0.674490, BEST], abs=1e-6)


def test_equal_values_share_the_highest_of_their_ranks():
    assert GaussianCopula([1, 1, 1, 2])([1, 2]) == pytest.approx([0.674490, BEST], abs=1e-6)


def test_below_all_is_the_lower_clamp_and_above_all_the_upper():
    copula = GaussianCopula([1, 2, 3])
    assert copula([-1e9, 0.999, 4, 1e9]) == pytest.approx([WORST, WORST, BEST, BEST], abs=1e-6)


def test_between_observed_values_the_share_is_interpolated():
    # half way between the shares 1/4 and 2/4: 0.375
    assert GaussianCopula([0, 10, 20, 30])(5.0) == pytest.approx(-0.318639, abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.lists(st.floats(-2e6, 2e6), min_size=2))
def test_order_is_kept_whatever_the_sign_of_the_values(observed, values):
    mapped = GaussianCopula(observed)(np.sort(values))
    assert (np.diff(mapped) >= 0).all()
    assert mapped == pytest.approx(np.clip(mapped, WORST - 1e-5, BEST + 1e-5))
