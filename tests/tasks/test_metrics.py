import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks import METRICS, compute_metrics
from prunepeft_ray.tasks.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, choose_metrics

# TP 2, FP 1, FN 2, TN 3
PREDICTED = np.array([1, 1, 1, 0, 0, 0, 0, 0])
REAL = np.array([1, 1, 0, 1, 1, 0, 0, 0])


def test_binary_metrics_have_the_values_computed_by_hand():
    values = compute_metrics(["accuracy", "f1", "matthews"], PREDICTED, REAL)
    assert values["accuracy"] == pytest.approx(5 / 8)
    assert values["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert values["matthews"] == pytest.approx((2 * 3 - 1 * 2) / math.sqrt(3 * 4 * 4 * 5))


def test_f1_of_two_classes_is_that_of_class_1():
    predicted, real = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert compute_metrics(["f1"], predicted, real)["f1"] == pytest.approx(2 / 3)
    assert compute_metrics(["f1"], 1 - predicted, 1 - real)["f1"] == pytest.approx(4 / 5)


def test_f1_of_more_classes_is_the_mean_over_classes():
    predicted, real = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    assert compute_metrics(["f1"], predicted, real)["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_number_of_classes_decides_f1_even_when_only_two_of_them_occur():
    predicted, real = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert compute_metrics(["f1"], predicted, real, num_labels=3)["f1"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)


def test_f1_is_a_mean_over_the_same_classes_whatever_was_predicted():
    real = np.array([0, 0, 1, 1])
    careful, wild = np.array([0, 1, 1, 1]), np.array([0, 3, 1, 1])
    # class 0: one of two found, both times; class 1: 2 of 2 with one wrong, and 2 of 2 with none
    values = [compute_metrics(["f1"], found, real, num_labels=4)["f1"] for found in (careful, wild)]
    assert values == pytest.approx([(2 / 3 + 4 / 5) / 4, (2 / 3 + 1) / 4])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_f1_of_more_classes_is_the_sum_of_each_classs_own_over_their_number(pairs):
    predicted, real = np.array(pairs).T
    hits = [2 * np.sum((predicted == c) & (real == c)) for c in range(6)]
    sizes = [np.sum(predicted == c) + np.sum(real == c) for c in range(6)]
    by_hand = sum(hit / size for hit, size in zip(hits, sizes, strict=True) if size) / 6
    assert compute_metrics(["f1"], predicted, real, num_labels=6)["f1"] == pytest.approx(by_hand)


def test_correlations_have_the_values_computed_by_hand():
    predicted, real = np.array([1.0, 2.0, 3.0, 10.0]), np.array([1.0, 2.0, 4.0, 3.0])
    values = compute_metrics(["pearson", "spearman"], predicted, real)
    # deviations (-3,-2,-1,6) and (-1.5,-.5,1.5,.5): 7 / sqrt(50 * 5); one swap of neighbours: 1 - 6*2/(4*15)
    assert values["pearson"] == pytest.approx(7 / math.sqrt(250))
    assert values["spearman"] == pytest.approx(0.8)


def test_correlation_falls_when_predictions_are_reversed():
    real = np.array([0.5, 1.5, 3.0], dtype=np.float32)
    assert compute_metrics(["pearson", "spearman"], -real, real) == pytest.approx({"pearson": -1, "spearman": -1})


@pytest.mark.parametrize(
    "predicted",
    [np.full(4, 2.5), np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, np.inf, 2.0, 3.0])],
    ids=["constant", "nan", "inf"],
)
def test_undefined_correlation_is_zero_without_a_warning(predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = compute_metrics(REGRESSION_METRICS, predicted, np.arange(4.0))
    assert values == {"pearson": 0.0, "spearman": 0.0}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_classification_metrics_are_always_finite_and_at_most_1(pairs):
    predicted, real = np.array(pairs).T
    values = compute_metrics(CLASSIFICATION_METRICS, predicted, real)
    assert list(values) == list(CLASSIFICATION_METRICS)
    assert all(type(value) is float and -1 <= value <= 1 + 1e-12 for value in values.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.floats(-9, 9, width=32)), min_size=1, max_size=30))
def test_regression_metrics_are_always_finite(pairs):
    predicted, real = np.array(pairs, dtype=np.float32).T
    values = compute_metrics(REGRESSION_METRICS, predicted, real)
    assert all(type(value) is float and math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(("predicted", "real"), [([1], [1, 0]), ([], []), ([[1]], [[1]])])
def test_shapes_that_do_not_fit_are_refused(predicted, real):
    with pytest.raises(ValueError, match="equally long"):
        compute_metrics(["accuracy"], np.array(predicted), np.array(real))


def test_unknown_metric_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        compute_metrics(["acuracy"], np.array([1]), np.array([1]))


def test_chosen_metric_decides_and_is_measured():
    assert choose_metrics(None, ("accuracy",), False) == (("accuracy",), "accuracy")
    assert choose_metrics("matthews", ("accuracy",), False) == (("accuracy", "matthews"), "matthews")
    assert choose_metrics("accuracy", ("f1", "accuracy"), False) == (("f1", "accuracy"), "accuracy")


def test_metric_of_the_other_kind_is_refused():
    with pytest.raises(InputError, match=r"'pearson' does not suit a task that predicts classes; suitable: accuracy"):
        choose_metrics("pearson", ("accuracy",), False)
    with pytest.raises(InputError, match=r"predicts numbers; suitable: pearson, spearman"):
        choose_metrics("f1", ("pearson",), True)


def test_every_metric_has_a_description():
    assert all(METRICS[name].description for name in METRICS)
