from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.seeds import derive_seed


def test_seeds_are_pinned():
    # results are reproducible across versions only if these never change
    assert [derive_seed(0), derive_seed(0, "head", "w"), derive_seed(1, "round", 2)] == [
        804681139,
        747883569,
        1972499871,
    ]


@given(st.integers(), st.lists(st.text() | st.integers()))
def test_a_seed_fits_every_generator_and_is_stable(seed, parts):
    derived = derive_seed(seed, *parts)
    assert 0 <= derived < 2**31
    assert derive_seed(seed, *parts) == derived


def test_streams_differ_by_seed_and_by_every_part_and_their_order():
    seeds = [
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "a"),
        derive_seed(0, "b"),
        derive_seed(0, "a", "b"),
        derive_seed(0, "b", "a"),
        derive_seed(0, "a", 1),
        derive_seed(0, "a", 2),
        derive_seed(0, "a", 1, 1),
    ]
    assert len(set(seeds)) == len(seeds)


def test_derived_seeds_spread_over_the_whole_range():
    seeds = [derive_seed(0, i) for i in range(1000)]
    assert len(set(seeds)) == 1000
    assert 0.45 < sum(seed >= 2**30 for seed in seeds) / 1000 < 0.55
