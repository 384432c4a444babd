"""A job that is interrupted anywhere and taken up again gives the bits of one that was not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import filled
from training_toys import ALL_CRITERIA, content, make_job, train_alone

from prunepeft_ray.training import SoloGroup, train
from prunepeft_ray.training.checkpoint import DamagedCheckpointError, pack, unpack


class InterruptedHereError(Exception):
    pass


class MemoryKeeper:
    """Keeps packed states in memory; interrupts the job after the n-th one."""

    def __init__(self, interrupt_after=None, every_step=True):
        self.states, self.interrupt_after, self.every_step = [], interrupt_after, every_step
        self.saved = 0
        self.refused, self.begun = [], []

    def load(self):
        return unpack(self.states[-1]) if self.states else None

    def refuse(self, reason):
        self.refused.append(reason)

    def begin(self, examples):
        self.begun.append(examples)

    def before_step(self, examples, batch):
        assert batch > 0

    def wanted(self):
        return self.every_step

    def save(self, state):
        self.states.append(pack(state))
        self.saved += 1
        if self.saved == self.interrupt_after:
            raise InterruptedHereError


def train_with(keeper, job, backbone, task):
    return train(job, backbone, task, SoloGroup(), lambda done, total: None, keeper)


JOBS = {
    "all criteria and a test": {"collect": ALL_CRITERIA, "test": True, "train_size": 40},
    "patience": {"epochs": 4, "patience": 1, "train_size": 40},
    "nothing measured": {"evaluate": "none", "collect": ("gate", "activation"), "train_size": 32},
    "dora and houlsby, cosine": {"types": ("dora", "houlsby"), "schedule": "cosine", "train_size": 32},
    "adalora": {"types": ("adalora", "pfeiffer"), "epochs": 3, "train_size": 64, "test": True},
    "prefix": {"types": ("prefix",), "collect": ALL_CRITERIA, "epochs": 3, "train_size": 32, "test": True},
    "full": {"types": ("full",), "train_size": 32, "learning_rates": {"FT": 0.001}},
}


def make(backbone, task, name):
    changes = dict(JOBS[name])
    if types := changes.pop("types", None):
        changes["architecture"] = filled(backbone.layers, *types)
    return make_job(backbone, task, **changes)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_interrupted_after_every_checkpoint_ends_with_the_same_bits(backbone, task, name):
    job = make(backbone, task, name)
    expected = train_alone(job, backbone, task)
    keeper = MemoryKeeper(interrupt_after=1)
    restarts = 0
    while True:
        try:
            trained = train_with(keeper, job, backbone, task)
            break
        except InterruptedHereError:
            keeper.saved = 0
            restarts += 1
            assert not backbone.adapted
    assert content(trained) == content(expected)
    assert restarts == trained.result.restarts == len(keeper.states) >= 5
    cost, whole = trained.result.cost, expected.result.cost
    assert (cost.train_examples, cost.eval_examples, cost.steps, cost.flops) == (
        whole.train_examples,
        whole.eval_examples,
        whole.steps,
        whole.flops,
    )


def test_keeping_changes_nothing(backbone, task):
    job = make(backbone, task, "all criteria and a test")
    keeper = MemoryKeeper()
    trained = train_with(keeper, job, backbone, task)
    assert content(trained) == content(train_alone(job, backbone, task))
    # every step, and the end of every epoch
    assert keeper.saved == 2 * 3 + 2
    assert trained.result.restarts == 0


def test_a_state_is_kept_at_the_end_of_every_epoch_that_is_not_the_end_of_the_job(backbone, task):
    for test, expected in ((False, 2), (True, 3)):
        keeper = MemoryKeeper(every_step=False)
        train_with(keeper, make_job(backbone, task, epochs=3, train_size=32, test=test), backbone, task)
        assert keeper.saved == expected


def test_time_is_counted_over_all_attempts(backbone, task, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr("prunepeft_ray.training.loop.time.monotonic", lambda: float(next(now)))
    job = make_job(backbone, task, epochs=1, train_size=32, test=True)
    keeper = MemoryKeeper(interrupt_after=2)
    with pytest.raises(InterruptedHereError):
        train_with(keeper, job, backbone, task)
    first = unpack(keeper.states[-1])["progress"]
    assert first["seconds"] == first["epoch_seconds"] == first["device_seconds"] > 0
    result = train_with(keeper, job, backbone, task).result
    assert result.epochs[0].seconds > first["epoch_seconds"]
    assert result.cost.wall_seconds > first["seconds"] + 1


def test_only_what_trains_is_in_a_checkpoint(backbone, task):
    keeper = MemoryKeeper()
    job = make_job(backbone, task, epochs=2, train_size=32)
    trained = train_with(keeper, job, backbone, task)
    state = unpack(keeper.states[-1])
    assert state["weights"].keys() == trained.state.keys()
    trainable = sum(tensor.numel() for tensor in trained.state.values())

    def numbers(item):
        if isinstance(item, torch.Tensor):
            return item.numel()
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
        return sum(numbers(value) for value in inner)

    # weights, two moments of the optimiser, the best epoch's weights, and some scalars
    assert 4 * trainable <= numbers(state) < 4 * trainable + 200


def small_state():
    return {"weights": {"a": torch.arange(5.0)}, "step": 3, "none": None}


def test_a_packed_state_comes_back():
    state = unpack(pack(small_state()))
    assert torch.equal(state["weights"]["a"], torch.arange(5.0))
    assert (state["step"], state["none"]) == (3, None)


@given(st.data())
def test_any_damage_to_a_checkpoint_is_noticed(data):
    whole = pack(small_state())
    where = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    cut = data.draw(st.booleans())
    damaged = whole[:where] if cut else whole[:where] + bytes([whole[where] ^ (1 << bit)]) + whole[where + 1 :]
    with pytest.raises(DamagedCheckpointError):
        unpack(damaged)


def test_a_checkpoint_never_runs_code():
    class Evil:
        def __reduce__(self):
            return print, ("evil",)

    with pytest.raises(DamagedCheckpointError):
        unpack(pack({"a": Evil()}))


def without(key):
    return lambda state: state.pop(key)


ODD = {
    **{f"no {key}": without(key) for key in ("progress", "weights", "optimiser", "schedule", "scaler", "scores")},
    "operations of an earlier version": lambda state: state["progress"].pop("flops"),
    "progress of another version": lambda state: state["progress"].update(colour="red"),
    "weights of another job": lambda state: state["weights"].popitem(),
    "weights of another size": lambda state: state["weights"].update(
        {name: tensor[:1] for name, tensor in state["weights"].items()}
    ),
    "a text": lambda state: state.update(optimiser="adam"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_whole_state_with_other_keys_is_refused_and_the_job_starts_anew(backbone, task, name):
    job = make(backbone, task, "dora and houlsby, cosine")
    expected = train_alone(job, backbone, task)
    keeper = MemoryKeeper(interrupt_after=2)
    with pytest.raises(InterruptedHereError):
        train_with(keeper, job, backbone, task)
    state = unpack(keeper.states[-1])
    ODD[name](state)
    keeper.states, keeper.interrupt_after = [pack(state)], None
    trained = train_with(keeper, job, backbone, task)
    (reason,) = keeper.refused
    assert reason.startswith("it does not belong to this job: ")
    assert "\n" not in reason
    assert keeper.begun == [0, 0]
    assert trained.result.restarts == 0
    assert content(trained) == content(expected)
