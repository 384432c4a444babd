"""Two real processes of a gloo group get the bits of one."""

import pickle

import pytest
import torch
import torch.multiprocessing as mp
from tiny import filled
from training_toys import ALL_CRITERIA, content, make_job, toy_task, train_alone

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.training import DistributedGroup, PrefixCache, default_micro_batches, encode_task, train
from prunepeft_ray.training.evaluation import predict_logits

pytestmark = pytest.mark.system

JOBS = {
    "two parts": {"micro_batches": 2, "collect": ALL_CRITERIA, "test": True},
    "four parts": {"micro_batches": 4, "collect": ALL_CRITERIA, "train_size": 40},
    "three parts, odd batch": {"micro_batches": 3, "collect": ("gate", "gradient"), "train_size": 17},
    "one part": {"micro_batches": 1, "collect": ALL_CRITERIA, "train_size": 32, "epochs": 1},
    "held out": {"evaluate": "holdout", "holdout": 0.3, "train_size": 40},
}
FROZEN = "frozen layers"
OTHER_TYPES = {
    "dora and houlsby": ("dora", "houlsby"),
    "adalora": ("adalora",),
    "prefix": ("prefix",),
    "full": ("full",),
}


def jobs(backbone, task):
    others = {
        name: {"architecture": filled(backbone.layers, *types), "train_size": 32} for name, types in OTHER_TYPES.items()
    }
    upper = [pair for pair in filled(backbone.layers, "lora") if pair[0].layer >= 2]
    frozen = {"architecture": Architecture(tuple(upper)), "frozen_dropout": False, "train_size": 32}
    changes = JOBS | others | {FROZEN: frozen}
    return {name: make_job(backbone, task, **changed) for name, changed in changes.items()}


def join(rank, world, meeting):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)


def run_rank(rank, model, meeting, results):
    join(rank, 2, meeting)
    group = DistributedGroup()
    backbone = load_backbone(model)
    task = encode_task(toy_task(), backbone, 32)
    done, costs = {}, {}
    for name, job in jobs(backbone, task).items():
        # both processes fill and read the same cache
        cache = PrefixCache(results / "prefix", 10**8) if name == FROZEN else None
        trained = train(job, backbone, task, group, lambda done, total: None, cache=cache)
        done[name], costs[name] = content(trained), trained.result.cost
    logits = predict_logits(backbone.model, task.dev, 2, 8, "fp32", group)
    number = torch.tensor([rank + 1.0])
    group.sum_(number)
    with (results / f"{rank}.pickle").open("wb") as stream:
        pickle.dump((done, costs, logits, float(number), group.gather(f"rank {rank}")), stream)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, (tiny_bert, str(folder / "meeting"), folder), nprocs=2)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


@pytest.mark.parametrize("name", [*JOBS, *OTHER_TYPES, FROZEN])
def test_two_processes_get_the_bits_of_one(ranks, backbone, task, name):
    alone = content(train_alone(jobs(backbone, task)[name], backbone, task))
    assert ranks[0][0][name] == alone
    assert ranks[1][0][name] == alone


def test_two_processes_count_their_cost_together(ranks, backbone, task):
    job = jobs(backbone, task)["two parts"]
    alone = train_alone(job, backbone, task).result.cost
    for _, costs, *_ in ranks:
        cost = costs["two parts"]
        assert (cost.train_examples, cost.eval_examples, cost.steps) == (
            alone.train_examples,
            alone.eval_examples,
            alone.steps,
        )
        assert cost.flops == alone.flops
        assert cost.device_seconds == 2 * cost.wall_seconds
    assert costs["one part"].flops > 0


def test_predictions_are_complete_on_every_process(ranks):
    assert torch.equal(ranks[0][2], ranks[1][2])
    assert bool((ranks[0][2] != 0).any(dim=1).all())


def test_a_group_sums_and_gathers_by_rank(ranks):
    for *_, number, gathered in ranks:
        assert number == 3.0
        assert gathered == ["rank 0", "rank 1"]


def count_parts(rank, model, meeting, results):
    join(rank, 4, meeting)
    backbone = load_backbone(model)
    task = encode_task(toy_task(), backbone, 32)
    parts = [0]

    def count(module, *_):
        parts[0] += module.training

    backbone.model.register_forward_pre_hook(count)
    job = make_job(backbone, task, micro_batches=default_micro_batches(backbone.device, 4), epochs=1, train_size=32)
    done = train(job, backbone, task, DistributedGroup(), lambda done, total: None).result
    (results / f"{rank}.pickle").write_bytes(pickle.dumps((parts[0], done.cost.steps)))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_each_of_four_processes_computes_a_part_of_every_batch(tiny_bert, tmp_path):
    mp.spawn(count_parts, (tiny_bert, str(tmp_path / "meeting"), tmp_path), nprocs=4)
    for rank in range(4):
        parts, steps = pickle.loads((tmp_path / f"{rank}.pickle").read_bytes())
        assert parts == steps > 0
