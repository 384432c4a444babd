import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prunepeft_ray.tasks.splits import (
    distinct_examples,
    largest_remainder,
    stratified_split,
    stratified_subset,
)

class_labels = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(lambda ids: np.asarray(ids, dtype=np.int64))
number_labels = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=200).map(
    lambda numbers: np.asarray(numbers, dtype=np.float32)
)
seeds = st.integers(-(2**40), 2**40)


@settings(max_examples=150, deadline=None)
@given(class_labels | number_labels, st.integers(0, 250), seeds)
def test_subset_has_the_size_asked_for_sorted_without_repeats_and_is_deterministic(labels, size, seed):
    chosen = stratified_subset(labels, size, seed)
    assert len(chosen) == min(size, len(labels))
    assert (np.diff(chosen) > 0).all()
    assert chosen.dtype == np.int64
    assert ((chosen >= 0) & (chosen < len(labels))).all()
    np.testing.assert_array_equal(chosen, stratified_subset(labels, size, seed))


@settings(max_examples=150, deadline=None)
@given(class_labels, st.data(), seeds)
def test_subset_keeps_every_class_when_size_allows(labels, data, seed):
    classes = np.unique(labels)
    size = data.draw(st.integers(len(classes), len(labels)))
    np.testing.assert_array_equal(np.unique(labels[stratified_subset(labels, size, seed)]), classes)


@settings(max_examples=150, deadline=None)
@given(class_labels, st.data(), seeds)
def test_subset_is_within_one_of_the_exact_proportion(labels, data, seed):
    size = data.draw(st.integers(1, len(labels)))
    counts = np.bincount(labels, minlength=7)
    quotas = counts * size / len(labels)
    assume(((quotas >= 1) | (counts == 0)).all())
    got = np.bincount(labels[stratified_subset(labels, size, seed)], minlength=7)
    assert (np.abs(got - quotas) < 1).all()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=150).map(np.asarray),
    st.integers(0, 150),
    st.integers(0, 150),
    seeds,
)
def test_smaller_subset_of_two_classes_lies_within_the_larger(labels, one, other, seed):
    small, large = sorted((one, other))
    assert np.isin(stratified_subset(labels, small, seed), stratified_subset(labels, large, seed)).all()


def test_subset_differs_between_seeds():
    labels = np.arange(100) % 2
    assert not np.array_equal(stratified_subset(labels, 20, 0), stratified_subset(labels, 20, 1))


def test_subset_of_a_known_case_follows_largest_remainder():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    chosen = stratified_subset(labels, 7, seed=3)
    # quotas 3.5, 2.1, 1.4: floors 3, 2, 1, and the one left over goes to .5
    assert np.bincount(labels[chosen]).tolist() == [4, 2, 1]


def test_subset_keeps_a_class_whose_share_rounds_to_nothing():
    labels = np.repeat([0, 1], [990, 10])
    assert np.bincount(labels[stratified_subset(labels, 10, seed=0)]).tolist() == [9, 1]


def test_subset_smaller_than_the_number_of_classes_takes_the_largest():
    labels = np.repeat([0, 1, 2], [5, 60, 35])
    assert set(labels[stratified_subset(labels, 2, seed=0)].tolist()) == {1, 2}


def test_subset_of_numbers_takes_as_many_from_every_tenth():
    labels = np.random.RandomState(0).permutation(1000).astype(np.float32)
    chosen = labels[stratified_subset(labels, 50, seed=0)]
    assert np.histogram(chosen, bins=np.arange(0, 1001, 100))[0].tolist() == [5] * 10


def test_subset_of_any_other_dtype_of_classes_works():
    assert len(stratified_subset(np.array([True, False, True, False]), 2, 0)) == 2
    assert len(stratified_subset([-1, 5, 5, -1, 7], 3, 0)) == 3


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        stratified_subset([0, 1], -1, 0)


@settings(max_examples=150, deadline=None)
@given(class_labels | number_labels, seeds)
def test_split_deals_out_every_example_once(labels, seed):
    parts = stratified_split(labels, (0.7, 0.15, 0.15), seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    if len(labels) >= 3:
        assert all(len(part) for part in parts)


@settings(max_examples=100, deadline=None)
@given(class_labels, seeds)
def test_split_gives_rare_classes_to_training_first(labels, seed):
    train, dev, test = stratified_split(labels, (0.7, 0.15, 0.15), seed)
    assume(len(train) >= len(np.unique(labels)))
    assert np.isin(labels[np.concatenate([dev, test])], labels[train]).all()


def test_split_keeps_proportions_in_every_part():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    for part, size in zip(stratified_split(labels, (0.7, 0.15, 0.15), 5), (700, 150, 150), strict=True):
        assert np.bincount(labels[part]).tolist() == [size * 0.6, size * 0.3, size * 0.1]


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.2, -0.2), (1.0, 0.0)])
def test_split_refuses_wrong_shares(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        stratified_split([0, 1], shares, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(sum), st.integers(0, 500))
def test_largest_remainder_adds_up_and_stays_within_one(weights, size):
    result = largest_remainder(weights, size)
    assert result.sum() == size
    assert (np.abs(result - np.asarray(weights) * size / sum(weights)) < 1 + 1e-9).all()


def test_copies_of_a_text_are_left_out_whatever_their_case_and_white_space():
    kept, labels = distinct_examples(["a  b", "c", "A b ", "d"], None, np.array([1, 0, 1, 0]))
    assert kept.tolist() == [0, 1, 3]
    assert labels.tolist() == [1, 0, 0]


def test_copies_of_a_text_are_left_out_whatever_their_punctuation_and_unicode_form():
    texts = ["It's SO good!!", "its so good", "It\u2019s so\u00a0good \u2026", "\uff29ts so good", "its so bad"]
    kept, _ = distinct_examples(texts, None, np.zeros(5, dtype=np.int64))
    assert kept.tolist() == [0, 4]


def test_texts_of_symbols_or_of_punctuation_alone_stay_apart():
    texts = [
        ":)",
        ":(",
        "...",
        "C++",
        "C",
        "\U0001f600",
        "\U0001f622",
        "5$",
        "5",
        "1.5",
        "15",
        "1-5",
        "1 5",
        "\u0939\u093f",
        "\u0939\u0940",
    ]
    kept, _ = distinct_examples(texts, None, np.zeros(len(texts), dtype=np.int64))
    assert kept.tolist() == list(range(len(texts)))


def test_copies_with_different_classes_get_the_most_frequent_and_go_on_a_tie():
    texts = ["x", "x", "x", "tie", "tie", "y"]
    kept, labels = distinct_examples(texts, None, np.array([0, 2, 2, 1, 0, 1]))
    assert [texts[i] for i in kept] == ["x", "y"]
    assert labels.tolist() == [2, 1]


def test_copies_with_different_numbers_get_their_mean():
    kept, labels = distinct_examples(["x", "y", "x"], None, np.array([1.0, 5.0, 2.0], dtype=np.float32))
    assert kept.tolist() == [0, 1]
    assert labels.tolist() == [1.5, 5.0]
    assert labels.dtype == np.float32


def test_pairs_are_copies_only_if_both_texts_are():
    kept, _ = distinct_examples(["p", "p", "p"], ["h1", "h2", "H1"], np.array([0, 1, 0]))
    assert kept.tolist() == [0, 1]
