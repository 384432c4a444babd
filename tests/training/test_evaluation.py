import math

import numpy as np
import pytest
import torch
from tiny import filled
from training_toys import toy_task

from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.training import SoloGroup
from prunepeft_ray.training.evaluation import loss_sum, measure, predict_logits, to_predictions

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
LABELS = torch.tensor([0, 0, 1])
BY_HAND = math.log(1 + math.exp(-2)) + math.log(1 + math.e) + math.log(1 + math.exp(3))


def test_the_loss_is_the_sum_of_cross_entropies():
    assert float(loss_sum(LOGITS, LABELS, regression=False)) == pytest.approx(BY_HAND)


def test_the_loss_of_numbers_is_the_sum_of_squared_errors():
    assert float(loss_sum(torch.tensor([[1.0], [0.5]]), torch.tensor([3.0, 1.0]), regression=True)) == 4.25


def test_a_loss_in_half_precision_is_summed_in_full_precision():
    assert loss_sum(LOGITS.bfloat16(), LABELS, regression=False).dtype == torch.float32


def test_metrics_and_mean_loss_by_hand():
    found = measure(LOGITS, LABELS, toy_task(8, 8, 8))
    assert found == pytest.approx({"loss": BY_HAND / 3, "accuracy": 1 / 3, "f1": 0.0})


def test_metrics_of_numbers_by_hand():
    logits = torch.tensor([[0.0], [1.0], [2.0]])
    found = measure(logits, torch.tensor([0.0, 1.0, 4.0]), toy_task(8, 8, 8, regression=True))
    assert found == pytest.approx({"loss": 4 / 3, "pearson": 4 / math.sqrt(2 * 26 / 3), "spearman": 1.0})


def test_predictions_are_class_ids_or_numbers():
    assert to_predictions(LOGITS, regression=False).tolist() == [0, 1, 0]
    assert to_predictions(torch.tensor([[0.5], [2.0]]), regression=True).tolist() == [0.5, 2.0]


class Half:
    """One of two processes; nobody adds the other's part."""

    world = 2

    def __init__(self, rank):
        self.rank = rank

    def sum_(self, tensor):
        pass


@pytest.fixture
def adapted(backbone):
    settings = ModulesConfig(init="paper")
    with AdaptedBackbone(backbone, filled(backbone.layers, "lora", "pfeiffer"), settings, 2, seed=0) as adapted:
        yield adapted.backbone.model


def test_predictions_depend_neither_on_batch_size_nor_on_order(adapted, task):
    adapted.train()
    whole = predict_logits(adapted, task.dev, 2, 64, "fp32", SoloGroup())
    assert adapted.training
    assert whole.shape == (len(task.dev), 2)
    assert whole.std() > 0.01
    for batch_size in (1, 7, 13):
        found = predict_logits(adapted, task.dev, 2, batch_size, "fp32", SoloGroup())
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)
    order = np.random.default_rng(0).permutation(len(task.dev))
    shuffled = predict_logits(adapted, task.dev.take(order), 2, 7, "fp32", SoloGroup())
    torch.testing.assert_close(shuffled, whole[torch.from_numpy(order)], atol=1e-5, rtol=1e-4)
    adapted.eval()


def test_processes_share_the_batches(adapted, task):
    whole = predict_logits(adapted, task.dev, 2, 8, "fp32", SoloGroup())
    halves = [predict_logits(adapted, task.dev, 2, 8, "fp32", Half(rank)) for rank in (0, 1)]
    assert torch.equal(halves[0] + halves[1], whole)
    done = [(half != 0).any(dim=1) for half in halves]
    assert not bool((done[0] & done[1]).any())
    assert min(int(part.sum()) for part in done) >= 16
