import math
from dataclasses import replace

import pytest
import torch
from tiny import filled
from training_toys import ALL_CRITERIA, backbone_bytes, content, make_job, measured_again, train_alone

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.training import SoloGroup, encode_task, train

FAST = {"PA": 0.03, "SA": 0.03, "head": 0.03}
CALM = {"modules": ModulesConfig(lora_dropout=0.0, init="paper"), "max_grad_norm": None}


class Untouchable:
    """A split that nobody may look at."""

    def __getattribute__(self, name):
        raise AssertionError("the test split was touched")

    def __len__(self):
        raise AssertionError("the test split was touched")


@pytest.fixture(scope="module")
def learned(backbone, task):
    """A job that learns the toy task, collecting everything, and the backbone's weights before it."""
    before = backbone_bytes(backbone)
    job = make_job(backbone, task, epochs=6, learning_rates=FAST, collect=ALL_CRITERIA, test=True)
    return job, train_alone(job, backbone, task), before


def test_a_separable_task_is_learned(learned):
    result = learned[1].result
    assert result.status == "done"
    assert result.metrics["accuracy"] > 0.9
    assert result.test["accuracy"] > 0.9
    assert result.epochs[-1].train_loss < 0.5 * result.epochs[0].train_loss
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3, 4, 5, 6]


def test_numbers_are_learned(backbone, regression_task):
    job = make_job(backbone, regression_task, epochs=5, learning_rates=FAST)
    result = train_alone(job, backbone, regression_task).result
    assert result.metrics["pearson"] > 0.8
    assert set(result.metrics) == {"loss", "pearson", "spearman"}


@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_other_families_learn_too(tiny_models, task, family):
    backbone = load_backbone(tiny_models[family])
    encoded = encode_task(task.data, backbone, 32)
    job = make_job(backbone, encoded, epochs=5, learning_rates=FAST, collect=ALL_CRITERIA)
    result = train_alone(job, backbone, encoded).result
    assert result.metrics["accuracy"] > 0.8
    assert len(result.scores["gate"]) == 2 * backbone.layers


def test_the_backbone_is_given_back_as_it_was(learned, backbone):
    assert backbone_bytes(backbone) == learned[2]
    assert not backbone.adapted
    assert not any(p.requires_grad or p.grad is not None for p in backbone.model.parameters())
    assert not backbone.model.training


def test_the_same_job_gives_the_same_bits(learned, backbone, task):
    job, trained, _ = learned
    torch.manual_seed(12345)
    assert content(train_alone(job, backbone, task)) == content(trained)


def test_another_seed_gives_another_result(learned, backbone, task):
    job, trained, _ = learned
    other = train_alone(replace(job, seed=job.seed + 1), backbone, task)
    assert other.result.epochs[0].train_loss != trained.result.epochs[0].train_loss
    assert all(not torch.equal(tensor, trained.state[name]) for name, tensor in other.state.items())


def test_the_weights_and_metrics_are_the_best_epochs(learned, backbone, task):
    job, trained, _ = learned
    result = trained.result
    accuracies = [epoch.metrics["accuracy"] for epoch in result.epochs]
    assert result.best_epoch == 1 + accuracies.index(max(accuracies))
    # else this test would not tell the best epoch's weights from the last one's
    assert result.best_epoch < len(result.epochs)
    assert result.metrics == result.epochs[result.best_epoch - 1].metrics
    assert result.metrics["loss"] != result.epochs[-1].metrics["loss"]
    assert measured_again(job, backbone, task.dev, task, trained.state) == result.metrics
    assert measured_again(job, backbone, task.tests[""], task, trained.state) == result.test


def test_training_stops_early_when_nothing_gets_better(backbone, task):
    job = make_job(backbone, task, epochs=12, patience=2, learning_rates=FAST)
    result = train_alone(job, backbone, task).result
    assert len(result.epochs) == result.best_epoch + 2 < 12
    assert result.cost.train_examples == len(result.epochs) * len(task.train)


def test_the_test_split_is_not_touched_unless_asked(backbone, task):
    blind = replace(task, tests={"": Untouchable()}, data=replace(task.data, test=Untouchable()))
    # the job's name of the data is all that training needs of it
    blind.data.__dict__["fingerprint"] = task.data.fingerprint
    for changes in ({"evaluate": "dev"}, {"evaluate": "none"}, {"evaluate": "holdout", "holdout": 0.3}):
        job = make_job(backbone, task, epochs=2, collect=("gate",), train_size=32, **changes)
        assert train_alone(job, backbone, blind).result.test == {}
    with pytest.raises(AssertionError, match="touched"):
        train_alone(replace(job, test=True), backbone, blind)
    assert not backbone.adapted


def test_the_test_split_is_measured_once(learned, task):
    result = learned[1].result
    assert set(result.test) == {"loss", "accuracy", "f1"}
    assert result.cost.eval_examples == len(result.epochs) * len(task.dev) + len(task.tests[""])


def test_further_test_splits_are_measured_beside_the_test_split(backbone, task):
    data = replace(task.data, further_tests={"mismatched": task.data.dev})
    both = encode_task(data, backbone, 32)
    job = make_job(backbone, both, epochs=1, test=True)
    result = train_alone(job, backbone, both).result
    assert {name for name in result.test if name.endswith("_mismatched")} == {
        "loss_mismatched",
        "accuracy_mismatched",
        "f1_mismatched",
    }
    assert result.test["accuracy_mismatched"] == result.metrics["accuracy"]
    assert result.cost.eval_examples == 2 * len(both.dev) + len(both.tests[""])


def test_without_evaluation_nothing_is_measured(backbone, task):
    job = make_job(backbone, task, epochs=3, patience=1, evaluate="none")
    result = train_alone(job, backbone, task).result
    assert [epoch.metrics for epoch in result.epochs] == [{}, {}, {}]
    assert (result.best_epoch, result.metrics, result.cost.eval_examples) == (3, {}, 0)
    same = train_alone(make_job(backbone, task, epochs=3), backbone, task)
    assert [e.train_loss for e in same.result.epochs] == [e.train_loss for e in result.epochs]


def test_without_evaluation_the_weights_are_the_last_epochs(backbone, task):
    one = make_job(backbone, task, epochs=1)
    unmeasured = train_alone(replace(one, evaluate="none"), backbone, task)
    measured = train_alone(one, backbone, task)
    assert all(torch.equal(tensor, measured.state[name]) for name, tensor in unmeasured.state.items())


def test_evaluation_may_be_on_a_held_out_part_of_the_subset(backbone, task):
    job = make_job(backbone, task, evaluate="holdout", holdout=0.25, train_size=40)
    trained = train_alone(job, backbone, task)
    cost = trained.result.cost
    assert (cost.train_examples, cost.eval_examples) == (2 * 30, 2 * 10)
    held_out = task.subset(40, 0.25)[1]
    assert measured_again(job, backbone, held_out, task, trained.state) == trained.result.metrics


def test_every_criterion_has_a_theta_for_every_slot(learned):
    job, trained, _ = learned
    slots = {str(slot) for slot in job.architecture.slots}
    assert {name: set(found) for name, found in trained.result.scores.items()} == dict.fromkeys(ALL_CRITERIA, slots)
    assert all(math.isfinite(theta) for found in trained.result.scores.values() for theta in found.values())
    assert all(len(set(found.values())) > 1 for name, found in trained.result.scores.items() if name != "zeros")


def test_collecting_criteria_changes_nothing_else(learned, backbone, task):
    job, trained, _ = learned
    plain = train_alone(replace(job, collect=()), backbone, task)
    found = trained.result
    assert plain.result.scores == plain.result.halves == {}
    assert content(replace(plain, result=replace(plain.result, scores=found.scores, halves=found.halves))) == content(
        trained
    )


@pytest.mark.parametrize("collect", [(), ALL_CRITERIA])
def test_a_loss_that_leaves_the_numbers_fails_the_job(backbone, task, collect):
    before = backbone_bytes(backbone)
    rates = dict.fromkeys(("PA", "SA", "head"), 1e20)
    job = make_job(backbone, task, epochs=3, learning_rates=rates, collect=collect, test=True)
    trained = train_alone(job, backbone, task)
    assert trained.result.status == "failed"
    assert "loss is" in trained.result.reason
    assert "learning rates" in trained.result.reason
    assert trained.state == {}
    assert trained.result.test == {}
    assert trained.result.cost.steps > 0
    assert backbone_bytes(backbone) == before
    assert not backbone.adapted
    assert train_alone(make_job(backbone, task), backbone, task).result.status == "done"


def test_weights_that_leave_the_numbers_in_the_last_step_fail_the_job_too(backbone, task):
    # one step: its loss is that of the starting weights; only the dev loss tells
    rates = dict.fromkeys(("PA", "SA", "head"), 1e30)
    job = make_job(backbone, task, epochs=1, train_size=16, warmup_share=0.0, learning_rates=rates)
    trained = train_alone(job, backbone, task)
    assert trained.result.status == "failed"
    assert "dev loss is" in trained.result.reason


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_change_nothing_but_rounding(calm_backbone, task, micro_batches):
    encoded = encode_task(task.data, calm_backbone, 32)
    changes = {"epochs": 1, "collect": ALL_CRITERIA, **CALM}
    whole = train_alone(make_job(calm_backbone, encoded, micro_batches=1, **changes), calm_backbone, encoded)
    parts = make_job(calm_backbone, encoded, micro_batches=micro_batches, **changes)
    split = train_alone(parts, calm_backbone, encoded)
    assert split.result.metrics == pytest.approx(whole.result.metrics, rel=1e-3)
    assert split.result.epochs[0].train_loss == pytest.approx(whole.result.epochs[0].train_loss, rel=1e-4)
    for name in ALL_CRITERIA:
        assert split.result.scores[name] == pytest.approx(whole.result.scores[name], rel=1e-2, abs=1e-7)


def test_the_training_loss_is_the_mean_over_examples(calm_backbone, task):
    # 33 examples in batches of 16: the last one is a batch by itself
    encoded = encode_task(task.data, calm_backbone, 32)
    subset = encoded.subset(33, 0.0)[0]
    rates = dict.fromkeys(("PA", "SA", "head"), 1e-12)
    job = make_job(calm_backbone, encoded, epochs=1, train_size=33, learning_rates=rates, **CALM)
    result = train_alone(job, calm_backbone, replace(encoded, dev=subset)).result
    assert result.epochs[0].train_loss == pytest.approx(result.metrics["loss"], rel=1e-5)


def test_gradients_are_clipped(backbone, task):
    # without momentum of earlier steps Adam ignores the gradient's size: two steps tell
    job = make_job(backbone, task, epochs=1, train_size=32, warmup_share=0.0, max_grad_norm=1e-9)
    tight = train_alone(job, backbone, task)
    loose = train_alone(make_job(backbone, task, epochs=1, train_size=32, warmup_share=0.0), backbone, task)
    assert any(not torch.equal(tensor, loose.state[name]) for name, tensor in tight.state.items())


def test_a_head_alone_can_be_trained(backbone, task):
    trained = train_alone(make_job(backbone, task, architecture=Architecture(), test=True), backbone, task)
    assert trained.result.status == "done"
    assert trained.result.parameters == 0
    assert trained.result.head_parameters == sum(p.numel() for p in backbone.head_parameters.values())
    assert {name.split(".")[0] for name in trained.state} == {"head"}
    assert trained.result.cost.flops > 0


@pytest.mark.parametrize(("examples", "micro_batches"), [(17, 4), (3, 8), (2, 2)])
def test_a_batch_may_be_smaller_than_its_parts(backbone, task, examples, micro_batches):
    job = make_job(backbone, task, train_size=examples, micro_batches=micro_batches, collect=ALL_CRITERIA)
    result = train_alone(job, backbone, task).result
    assert result.status == "done"
    assert result.cost.train_examples == 2 * examples
    assert result.cost.steps == 2 * math.ceil(examples / 16)
    assert all(math.isfinite(theta) for found in result.scores.values() for theta in found.values())


def test_progress_counts_examples_up_to_the_total(backbone, task):
    seen = []
    job = make_job(backbone, task, train_size=40)
    train(job, backbone, task, SoloGroup(), lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {80}
    # after every step, and after every batch of the evaluations
    assert len({done for done, _ in seen}) == 6 < len(seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 80


def test_parameters_are_those_that_torch_counts(backbone, task):
    job = make_job(backbone, task, epochs=1, train_size=16, architecture=filled(backbone.layers, "dora", "houlsby"))
    trained = train_alone(job, backbone, task)
    sizes = {name: tensor.numel() for name, tensor in trained.state.items()}
    head = sum(size for name, size in sizes.items() if name.startswith("head."))
    assert trained.result.head_parameters == head
    assert trained.result.parameters == sum(sizes.values()) - head
