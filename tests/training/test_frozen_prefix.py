"""Frozen layers below the lowest filled slot: the same bits with and without a cache of their output."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_checkpoint import InterruptedHereError, MemoryKeeper
from tiny import filled, make_tiny_model
from training_toys import ALL_CRITERIA, content, make_job, measured_again, toy_task, train_alone

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.training import PrefixCache, SoloGroup, encode_task, train
from prunepeft_ray.training.frozen_prefix import FrozenPrefix, pays

FAMILIES = ("bert", "roberta", "llama")
CPU = torch.device("cpu")


def above(backbone, lowest, *types):
    """Modules in all layers from the lowest up."""
    slots = filled(backbone.layers, *(types or ("lora", "pfeiffer")))
    return Architecture(tuple(pair for pair in slots if pair[0].layer >= lowest))


def frozen_job(backbone, task, lowest=2, types=(), **changes):
    return make_job(backbone, task, architecture=above(backbone, lowest, *types), frozen_dropout=False, **changes)


def train_cached(job, backbone, task, folder, keeper=None):
    return train(job, backbone, task, SoloGroup(), lambda done, total: None, keeper, cache=PrefixCache(folder, 10**8))


@pytest.fixture
def computed(monkeypatch):
    """The examples whose states were computed, one entry per call."""
    calls, compute = [], FrozenPrefix.compute

    def counting(self, split, indices):
        calls.append(indices.tolist())
        return compute(self, split, indices)

    monkeypatch.setattr(FrozenPrefix, "compute", counting)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_starts_above_the_prefix_gives_the_whole_models_logits(tiny_models, family):
    backbone = load_backbone(tiny_models[family])
    split = encode_task(toy_task(train=12, pairs=True), backbone, 32).train
    indices = np.array([5, 0, 7, 2])
    inputs, _ = split.batch(indices, CPU)
    ran = []
    hooks = [
        layer.register_forward_hook(lambda *_args, number=number: ran.append(number))
        for number, layer in enumerate(backbone.model.get_submodule(backbone.family.layers))
    ]
    try:
        with torch.no_grad():
            whole = backbone.model(**inputs).logits
            for layers in range(1, backbone.layers + 1):
                prefix = FrozenPrefix(backbone, layers, "fp32", 1, None)
                with prefix.starting(split, indices):
                    ran.clear()
                    started = backbone.model(**inputs).logits
                assert ran == list(range(layers, backbone.layers))
                torch.testing.assert_close(started, whole)
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_examples_states_do_not_depend_on_its_batch(tiny_models, family):
    backbone = load_backbone(tiny_models[family])
    split = encode_task(toy_task(train=12), backbone, 32).train
    prefix = FrozenPrefix(backbone, 2, "fp32", 1, None)
    backbone.model.train()
    together = prefix.states(split, np.arange(12))
    # dropout is off in the prefix alone
    assert all(module.training for module in backbone.model.modules())
    backbone.model.eval()
    for i in (11, 0, 4):
        (alone,) = prefix.states(split, np.array([i]))
        assert alone.shape == (split.lengths[i], backbone.hidden_size)
        assert torch.equal(alone, together[i])


@pytest.mark.parametrize(
    ("family", "lowest", "types"),
    [
        ("bert", 1, ("lora", "pfeiffer")),
        ("bert", 3, ("dora", "houlsby")),
        ("bert", 2, ("adalora", "parallel")),
        ("bert", 2, ("prefix",)),
        ("bert", 2, ("full",)),
        ("bert", 4, ()),
        ("roberta", 2, ("lora", "pfeiffer")),
        ("roberta", 3, ("full",)),
        ("llama", 2, ("lora", "pfeiffer")),
        ("llama", 3, ("prefix", "parallel")),
        ("llama", 5, ()),
    ],
)
def test_a_cache_changes_no_bit_of_a_result(tiny_models, tmp_path, computed, family, lowest, types):
    backbone = load_backbone(tiny_models[family])
    task = encode_task(toy_task(train=40, dev=20, test=20), backbone, 32)
    collect = ALL_CRITERIA if types and not {"adalora", "full"}.intersection(types) else ()
    job = frozen_job(backbone, task, lowest, types, collect=collect, test=True)
    uncached = train_alone(job, backbone, task)
    without = len(computed)
    empty = train_cached(job, backbone, task, tmp_path)
    computed.clear()
    full = train_cached(job, backbone, task, tmp_path)
    assert content(uncached) == content(empty) == content(full)
    assert uncached.result.cost.flops == empty.result.cost.flops == full.result.cost.flops
    # an example of each split, to learn the states' size, and a micro-batch for its operations
    assert len(computed) <= 3 < without


def test_every_example_is_computed_once_for_all_epochs_and_jobs(backbone, task, tmp_path, computed):
    for changes in ({"seed": 1}, {"seed": 2}, {"types": ("lora",)}, {"batch_size": 8, "micro_batches": 1}):
        computed.clear()
        train_cached(frozen_job(backbone, task, **changes), backbone, task, tmp_path)
        counted = sum(len(indices) for indices in computed)
        known = 2 + len(computed[0]) + 16
        assert counted <= (len(task.train) + len(task.dev) + known if changes == {"seed": 1} else known)


@pytest.mark.parametrize("name", ["text", "order", "model", "layer", "precision", "threads"])
def test_states_of_something_else_are_never_used(tmp_path_factory, tmp_path, monkeypatch, computed, name):
    models = tmp_path_factory.mktemp("models")
    backbone = load_backbone(str(make_tiny_model("bert", models / "one")))
    task = encode_task(toy_task(train=24, dev=8), backbone, 32)
    changes = {"evaluate": "none", "epochs": 1}
    train_cached(frozen_job(backbone, task, **changes), backbone, task, tmp_path)
    lowest = 2
    if name == "text":
        ids = task.train.input_ids.clone()
        ids[0, 1] += 1
        task = replace(task, train=replace(task.train, input_ids=ids))
    elif name == "order":
        task = replace(task, train=task.train.take(np.arange(24)[::-1].copy()))
    elif name == "model":
        backbone = load_backbone(str(make_tiny_model("bert", models / "other", seed=1)))
    elif name == "layer":
        lowest = 3
    elif name == "precision":
        changes["precision"] = "bf16"
    else:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    computed.clear()
    job = frozen_job(backbone, task, lowest, **changes)
    cached = train_cached(job, backbone, task, tmp_path)
    assert sum(len(indices) for indices in computed) >= 24
    assert len(list(tmp_path.iterdir())) == 2
    assert content(cached) == content(train_alone(job, backbone, task))


def test_labels_and_padding_are_no_part_of_a_text(task):
    split = task.train
    wider = replace(split, input_ids=torch.nn.functional.pad(split.input_ids, (0, 3)), labels=1 - split.labels)
    if split.token_types is not None:
        wider = replace(wider, token_types=torch.nn.functional.pad(split.token_types, (0, 3)))
    assert wider.digest == split.digest


def test_damaged_states_are_computed_again(backbone, task, tmp_path):
    job = frozen_job(backbone, task, epochs=1)
    first = content(train_cached(job, backbone, task, tmp_path))
    for file in tmp_path.iterdir():
        data = bytearray(file.read_bytes())
        data[1::50] = bytes(255 - byte for byte in data[1::50])
        file.write_bytes(data)
    assert content(train_cached(job, backbone, task, tmp_path)) == first


def test_a_job_interrupted_anywhere_and_resumed_elsewhere_ends_with_the_same_bits(backbone, task, tmp_path):
    job = frozen_job(backbone, task, train_size=32, collect=ALL_CRITERIA)
    keeper, restarts = MemoryKeeper(interrupt_after=1), 0
    while True:
        try:
            # with a new, empty cache after every other interruption
            trained = train_cached(job, backbone, task, tmp_path / str(restarts // 2), keeper)
            break
        except InterruptedHereError:
            keeper.saved, restarts = 0, restarts + 1
            assert not backbone.adapted
    assert restarts >= 4
    assert content(trained) == content(train_alone(job, backbone, task))


def test_dropout_stays_on_above_the_prefix(backbone, task, calm_backbone):
    frozen = frozen_job(backbone, task, epochs=1)
    everywhere = replace(frozen, training=frozen.training.model_copy(update={"frozen_dropout": True}))
    losses = [train_alone(job, backbone, task).result.epochs[0].train_loss for job in (frozen, everywhere)]
    assert losses[0] != losses[1]
    # without any dropout of its own, a backbone computes the same either way
    calm = encode_task(task.data, calm_backbone, 32)
    jobs = [replace(job, model_fingerprint=calm_backbone.fingerprint) for job in (frozen, everywhere)]
    one, other = (train_alone(job, calm_backbone, calm).result.epochs[0].train_loss for job in jobs)
    assert one == pytest.approx(other, rel=1e-5)
    assert one != losses[0]


def test_a_job_with_a_slot_in_the_lowest_layer_has_no_prefix(backbone, task, computed):
    frozen = frozen_job(backbone, task, lowest=0, epochs=1)
    everywhere = replace(frozen, training=frozen.training.model_copy(update={"frozen_dropout": True}))
    assert content(train_alone(frozen, backbone, task)) == content(train_alone(everywhere, backbone, task))
    assert computed == []


def test_the_test_split_is_measured_as_the_saved_adapter_will_be_used(backbone, task, tmp_path):
    job = frozen_job(backbone, task, test=True)
    trained = train_cached(job, backbone, task, tmp_path)
    assert measured_again(job, backbone, task.tests[""], task, trained.state) == trained.result.test
    metrics = measured_again(job, backbone, task.dev, task, trained.state)
    assert metrics == pytest.approx(trained.result.metrics, rel=1e-5)


def test_keeping_pays_where_reading_is_faster_than_computing():
    # MiniLM, 2 layers of 1.77 million parameters, on a CPU: 142 us to compute a token, 1.5 us to read one
    assert pays(3_550_000, 1536, 1, "cpu")
    # 1 layer on a GPU: 0.035 us to compute a token
    assert not pays(1_775_000, 1536, 20, "cuda")
    # 8 layers of Llama-3-8B on a GPU: 35 us to compute a token, 16.4 us to read one
    assert pays(1_745_000_000, 16384, 20, "cuda")
    # two jobs of one epoch: 1 computation, 1 write and 2 reads against 2 computations: 35 + 3 * 16.4 > 2 * 35
    assert not pays(1_745_000_000, 16384, 1, "cuda")


def test_what_does_not_pay_is_not_kept(backbone, task, tmp_path, monkeypatch):
    monkeypatch.setattr("prunepeft_ray.training.frozen_prefix.pays", lambda *_args: False)
    train_cached(frozen_job(backbone, task, epochs=1), backbone, task, tmp_path)
    assert list(tmp_path.iterdir()) == []
