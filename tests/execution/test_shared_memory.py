"""Real Ray and real worker processes; what is shared is read-only in them."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from execution_toys import make_spec
from ray import cloudpickle
from ray.exceptions import ActorDiedError
from tiny import TEXTS, filled
from torch import nn

from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.execution import Workbench, plan_search, workbench
from prunepeft_ray.execution import shared_memory as sharing
from prunepeft_ray.execution.search import train_group
from prunepeft_ray.execution.shared_memory import fits, open_shared, share
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import SoloGroup, train

# the workers cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])

KINDS = ("bert", "roberta", "llama", "bert whose pooler is new")
JOBS = {("lora", "pfeiffer"): tuple(CRITERIA), ("dora", "houlsby"): tuple(CRITERIA), ("full",): (), ("adalora",): ()}
"""Module types of the jobs, and the criteria that they collect."""


class Reader:
    """A process that opens what is shared."""

    def open(self, shared):
        self.item = open_shared(shared)

    def call(self, function, *args):
        """Run a function on the item."""
        return function(self.item, *args)


def make_readers(count):
    return [ray.remote(num_cpus=0)(Reader).remote() for _ in range(count)]


@pytest.fixture(scope="module")
def readers(cluster):
    return make_readers(2)


def opened(reader, item, function, *args):
    """What a function gives when a reader runs it on the shared item."""
    shared = share(item)
    assert shared is not None
    ray.get(reader.open.remote(shared))
    return ray.get(reader.call.remote(function, *args))


@pytest.fixture(scope="module")
def benches(tiny_models, small_task):
    """By kind: a workbench that is ready for jobs, and the jobs."""
    found = {}
    for kind in KINDS:
        spec = make_spec(tiny_models[kind.split()[0]], small_task)
        # one of our own: the models that other tests use may carry hooks
        backbone, data = load_backbone.__wrapped__(spec.model), load_task(spec.task)
        if "pooler" in kind:
            poolers = frozenset(name for name, _ in backbone.model.named_parameters() if ".pooler." in name)
            assert poolers
            backbone = Backbone(backbone.model, backbone.tokenizer, backbone.family, backbone.fingerprint, poolers)
        bench = Workbench(backbone, data)
        bench.task(spec.training.max_length)
        template = replace(plan_search(spec, backbone, data).template, test=True)
        found[kind] = (
            bench,
            [
                replace(template, architecture=filled(backbone.layers, *types), collect=collect)
                for types, collect in JOBS.items()
            ],
        )
    return found


def described(tensor):
    flat = tensor.detach().clone(memory_format=torch.contiguous_format).flatten()
    raw = flat.view(torch.uint8).tolist() if len(flat) else ()
    return type(tensor), tensor.dtype, tuple(tensor.shape), tensor.requires_grad, bytes(raw)


def tensors(model):
    return dict(model.named_parameters()) | dict(model.named_buffers())


def content(bench):
    """All that a workbench holds, as plain data."""
    (task,) = bench._encoded.values()
    splits = [
        (described(split.input_ids), split.lengths.tolist(), described(split.labels))
        for split in (task.train, task.dev, *task.tests.values())
    ]
    backbone = bench.backbone
    return {
        "tensors": {name: described(tensor) for name, tensor in tensors(backbone.model).items()},
        "weights": list(backbone.model.state_dict()),
        "config": backbone.model.config.to_dict(),
        "tokens": dict(backbone.tokenizer(list(TEXTS))),
        "splits": splits,
        "texts": [bench.data.train.texts, bench.data.dev.texts, bench.data.test.texts],
        "task": (bench.data.fingerprint, task.data is bench.data),
        "rest": (backbone.family, backbone.fingerprint, backbone.new_parameters, backbone.parameters),
        "training": (backbone.model.training, backbone.adapted),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_opened_workbench_is_the_original_bit_by_bit(readers, benches, kind):
    bench = benches[kind][0]
    expected = content(bench)
    # buffers that are not in the state, but that the model needs
    assert set(expected["tensors"]) > set(expected["weights"])
    assert opened(readers[0], bench, content) == expected


def logits(bench):
    """Of a batch of one, whose last bits depend on the weights' alignment."""
    with torch.no_grad():
        return described(bench.backbone.model(**bench.backbone.tokenizer(TEXTS[0], return_tensors="pt")).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_keep_their_alignment_and_a_single_example_its_bits(readers, benches, kind):
    bench = benches[kind][0]
    assert opened(readers[0], bench, alignments) == alignments(bench)
    assert opened(readers[0], bench, logits) == logits(bench)


def alignments(bench):
    return {name: tensor.data_ptr() % 64 for name, tensor in tensors(bench.backbone.model).items()}


def trained(bench, jobs):
    """All of the results that must not depend on time and place."""
    torch.set_num_threads(1)
    found = []
    for job in jobs:
        task = bench.task(job.training.max_length)
        done = train(job, bench.backbone, task, SoloGroup(), lambda done, total: None)
        assert done.result.status == "done"
        epochs = [(epoch.train_loss, dict(epoch.metrics)) for epoch in done.result.epochs]
        weights = {name: tensor.numpy().tobytes() for name, tensor in done.state.items()}
        found.append((epochs, dict(done.result.test), dict(done.result.scores), weights))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_on_an_opened_workbench_write_to_nothing_shared_and_give_the_same_bits(readers, benches, kind):
    bench, jobs = benches[kind]
    assert opened(readers[1], bench, trained, jobs) == trained(bench, jobs)


def places(bench):
    """Where each of the backbone's tensors lies: file, place in it and access."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [(*(int(end, 16) for end in line[0].split("-")), line) for line in maps]
    found = {}
    for name, tensor in tensors(bench.backbone.model).items():
        address = tensor.data_ptr()
        start, line = next((start, line) for start, end, line in spans if start <= address < end)
        found[name] = (line[3], line[4], int(line[2], 16) + address - start, line[1])
    return os.getpid(), found


def test_processes_of_a_node_map_the_same_memory_and_only_to_read(readers, benches):
    shared = share(benches["bert"][0])
    ray.get([reader.open.remote(shared) for reader in readers])
    (one, first), (other, second) = ray.get([reader.call.remote(places) for reader in readers])
    assert one != other
    assert first == second
    # a device and inode, so a file; shared, and without the right to write
    assert all(inode != "0" and access == "r--s" for _, inode, _, access in first.values())


def weights(bench):
    return bench.backbone.model.get_input_embeddings().weight.sum().item()


def write(bench):
    with torch.no_grad():
        bench.backbone.model.get_input_embeddings().weight[0, 0] += 1


def write_bias(bench):
    bench.backbone.model.classifier.bias.data.fill_(1)


@pytest.mark.parametrize("writing", [write, write_bias])
def test_a_write_ends_the_process_and_changes_nothing(readers, benches, writing):
    (writer,) = make_readers(1)
    shared = share(benches["bert"][0])
    ray.get([reader.open.remote(shared) for reader in (writer, readers[0])])
    before = ray.get(readers[0].call.remote(content))
    with pytest.raises(ActorDiedError):
        ray.get(writer.call.remote(writing))
    assert ray.get(readers[0].call.remote(content)) == before


def write_array(bench):
    bench.data.train.labels[0] = 7


def test_a_write_to_an_array_is_refused(readers, benches):
    with pytest.raises(ValueError, match="read-only"):
        opened(readers[0], benches["bert"][0], write_array)


def put_much(item):
    return [ray.put(np.full(size, 7, np.uint8)) for size in (1, 5_000, 300_000, 2_000_000) for _ in range(20)]


def test_a_process_that_opened_an_item_still_puts_others_next_to_it(readers):
    references = opened(readers[0], np.arange(10_000), put_much)
    assert all((array == 7).all() for array in ray.get(references))


DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn),
]
SHAPES = [(), (1,), (0,), (3, 0), (3, 5), (2, 3, 4), (70, 80)]


def describe_all(item):
    return {name: described(tensor) for name, tensor in item.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_type_and_shape_come_out_as_they_were(readers, dtype):
    item = {}
    for shape in SHAPES:
        tensor = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        item |= {f"{shape}": tensor, f"{shape} transposed": tensor.permute(list(range(len(shape)))[::-1])}
        item[f"{shape} expanded"] = tensor.expand(2, *shape)
        item[f"{shape} frozen"] = nn.Parameter(tensor, requires_grad=False)
        if dtype.is_floating_point:
            item[f"{shape} parameter"] = nn.Parameter(tensor)
            item[f"{shape} training"] = tensor.clone().requires_grad_()
    assert opened(readers[0], item, describe_all) == describe_all(item)


def test_tied_parameters_stay_tied(readers):
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    assert opened(readers[0], [one, other], lambda item: item[0].weight is item[1].weight)


def test_arrays_of_every_kind_come_out_as_they_were(readers):
    arrays = [
        np.array([["a", "bcd"]]),
        np.array([None, "x", 1.5], dtype=object),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::3],
        np.zeros((0, 4)),
        np.array(3.5),
    ]
    found = opened(readers[0], arrays, lambda item: [(array.dtype, array.shape, array.tolist()) for array in item])
    assert found == [(array.dtype, array.shape, array.tolist()) for array in arrays]


def test_what_is_shared_takes_little_more_than_its_tensors(cluster, benches):
    backbone = benches["bert"][0].backbone
    size = sum(tensor.nbytes for tensor in tensors(backbone.model).values())
    assert size < share(backbone.model).size < size + 50_000


def test_an_item_must_fit_into_the_smallest_node_that_is_alive(monkeypatch):
    nodes = [(True, 2000), (True, 1000), (False, 10)]
    found = [{"Alive": alive, "Resources": {"object_store_memory": room}} for alive, room in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    assert fits(800)
    assert not fits(801)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
    assert not fits(1)


def test_workers_load_by_themselves_what_is_too_large(cluster, monkeypatch, spec):
    monkeypatch.setattr(sharing, "LARGEST_SHARE", 1e-9)
    data = load_task(spec.task)
    assert share(data) is None
    there = train_group.share_bench(spec, data)
    # the task has been encoded by then
    monkeypatch.setattr(workbench, "encode_task", None)
    bench = train_group.open_bench(there, spec, torch.device("cpu"))
    assert bench.backbone.fingerprint == load_backbone(spec.model).fingerprint
    assert bench.data.fingerprint == data.fingerprint
    assert len(bench.task(spec.training.max_length).train) == len(data.train)


def encoded_examples(there, spec):
    bench = train_group.open_bench(there, spec, torch.device("cpu"))
    encoded = len(bench.task(spec.training.max_length).train)
    return encoded, "tokenizer" in vars(bench.backbone)


def test_workers_encode_nothing(readers, spec):
    data = load_task(spec.task)
    there = train_group.share_bench(spec, data)
    work = ray.remote(num_cpus=0)(encoded_examples)
    assert ray.get(work.remote(there, spec)) == (len(data.train), False)


def describe_backbone(there, spec):
    backbone = train_group.open_bench(there, spec, torch.device("cpu")).backbone
    return backbone.adapted, type(getattr(*backbone.site(0, "query")))


def test_an_adapter_that_this_process_uses_is_not_shared(readers, spec):
    backbone = load_backbone(spec.model)
    with AdaptedBackbone(backbone, filled(backbone.layers, "lora"), ModulesConfig(), num_outputs=2, seed=0):
        there = train_group.share_bench(spec, load_task(spec.task))
    assert ray.get(ray.remote(num_cpus=0)(describe_backbone).remote(there, spec)) == (False, nn.Linear)
