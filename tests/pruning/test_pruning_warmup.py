from dataclasses import replace

import pytest
from pruning_fakes import CRITERIA, drive, execute, hashed_loss, hashed_theta, make_space, make_spec, pa, sa
from toy_jobs import make_template

from prunepeft_ray.architecture import Partition, partition_of
from prunepeft_ray.config import WarmupConfig
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.pruning import SELECTORS, GeneratorMethod, WarmUp
from prunepeft_ray.seeds import derive_seed


def run_selector(name, space, criteria=CRITERIA, start=None, theta=None, loss=hashed_loss, **config):
    """Run a selector by itself; returns its strategy, work and decisions."""
    learned = []
    warmup = WarmUp(
        template=make_template(make_spec(), space),
        config=WarmupConfig(**config),
        criteria=criteria,
        partitions=partition_of(space.supernet.slots, space.layers),
        seed=11,
        origin={"task": "t"},
    )

    def steps():
        learned.append((yield from SELECTORS[name].learn(warmup, start or space.supernet)))

    method = GeneratorMethod(steps(), space.supernet)
    work = drive(method, loss=loss, **({"theta": theta} if theta else {}))
    return learned[0], work, warmup.decisions


def place(text):
    block, kind = text.split(".")
    return Partition(int(block), kind)


# 6 layers, blocks 0 | 1 2 | 3 4 | 5
PARALLEL, SERIAL = pa(*range(6)), sa(*range(6))
CHAIN_THETAS = {
    "weight": dict(zip(PARALLEL + SERIAL, (1, 2, 3, 4, 5, 6, 60, 50, 40, 30, 20, 10), strict=True)),
    "activation": dict(zip(PARALLEL + SERIAL, (6, 5, 4, 3, 2, 1, 10, 20, 30, 40, 50, 60), strict=True)),
    "threshold": dict(zip(PARALLEL + SERIAL, (0.1, 0.5, 0.9, 0.8, 0.4, 0.1, *[0.05] * 6), strict=True)),
}


def test_frequency_chains_by_hand():
    strategy, work, decisions = run_selector(
        "frequency",
        make_space(6),
        criteria=tuple(CHAIN_THETAS),
        theta=lambda job, criterion, slot: CHAIN_THETAS[criterion][slot],
        turns=2,
        remove=2,
    )
    # weight: smallest of each kind, PA.0 and SA.5, then PA.1 and SA.4; activation: PA.5 and SA.0, then PA.4 and SA.1;
    # threshold: SA are all equal, the largest PA stand out: PA.2 and PA.3, then PA.1 and PA.4
    removed = [(d.index, d.criteria[0], d.slot) for d in decisions if d.removed]
    assert sorted(removed) == sorted(
        [
            (1, "weight", "PA.0"),
            (1, "weight", "SA.5"),
            (2, "weight", "PA.1"),
            (2, "weight", "SA.4"),
            (1, "activation", "PA.5"),
            (1, "activation", "SA.0"),
            (2, "activation", "PA.4"),
            (2, "activation", "SA.1"),
            (1, "threshold", "PA.2"),
            (1, "threshold", "PA.3"),
            (2, "threshold", "PA.1"),
            (2, "threshold", "PA.4"),
        ]
    )
    counts = {str(p): tuple(row[c] for c in CHAIN_THETAS) for p, row in strategy.evidence.items()}
    assert counts == {
        "0.PA": (1, 0, 0),
        "1.PA": (1, 0, 2),
        "2.PA": (0, 1, 2),
        "3.PA": (0, 1, 0),
        "0.SA": (0, 1, 0),
        "1.SA": (0, 1, 0),
        "2.SA": (1, 0, 0),
        "3.SA": (1, 0, 0),
    }
    assert strategy.assignment[place("0.PA")] == ("weight",)
    assert strategy.assignment[place("1.PA")] == ("weight", "threshold")  # weight peaks at 1 here too
    assert strategy.assignment[place("2.PA")] == ("activation", "threshold")
    assert strategy.assignment[place("3.SA")] == ("weight",)
    assert strategy.weights[place("1.PA")] == pytest.approx({"weight": 2 / 6, "activation": 1 / 6, "threshold": 3 / 6})
    assert (strategy.select, strategy.seed, strategy.origin) == ("frequency", 11, {"task": "t"})
    assert [piece.label for piece in work] == [
        "warm-up turn 1/2: all criteria",
        "warm-up turn 2/2: weight",
        "warm-up turn 2/2: activation",
        "warm-up turn 2/2: threshold",
    ]
    assert len(decisions) == 3 * (12 + 10)


def test_frequency_jobs():
    _, work, decisions = run_selector("frequency", make_space(12), train_size=80, epochs=4, remove=3, turns=3)
    assert len(work) == 13
    assert {piece.kind for piece in work} == {"warmup"}
    for piece in work:
        turn = 1 if len(piece.job.architecture) == 24 else 2 if len(piece.job.architecture) == 21 else 3
        assert piece.label.startswith(f"warm-up turn {turn}/3: ")
        assert piece.job.seed == derive_seed(11, "warmup", turn)
        assert (piece.job.train_size, piece.job.training.epochs, piece.job.training.patience) == (80, 4, None)
        assert (piece.job.evaluate, piece.job.test, piece.job.holdout) == ("none", False, 0)
        assert piece.job.collect == CRITERIA
    assert {d.job_id for d in decisions} == {piece.job.id for piece in work}
    assert {d.step for d in decisions} == {"warmup"}


def test_criteria_that_agree_share_their_jobs():
    # all see the same, but threshold the reverse: two chains
    theta = {slot: 1 + n / 100 for n, slot in enumerate(make_space(12).supernet.slots)}
    _, work, _ = run_selector("frequency", make_space(12), theta=lambda job, c, slot: theta[slot])
    assert len(work) == 1 + 2 + 2
    assert [piece.label for piece in work[:3]] == [
        "warm-up turn 1/3: all criteria",
        "warm-up turn 2/3: weight, zeros, activation, sensitivity, gradient",
        "warm-up turn 2/3: threshold",
    ]


def test_chains_run_in_parallel():
    warmup = WarmUp(
        template=make_template(make_spec(), make_space(12)),
        config=WarmupConfig(),
        criteria=CRITERIA,
        partitions=partition_of(make_space(12).supernet.slots, 12),
    )
    steps = SELECTORS["frequency"].learn(warmup, make_space(12).supernet)
    batch, sizes = next(steps), []
    with pytest.raises(StopIteration):
        while True:
            sizes.append(len(batch))
            batch = steps.send({piece.job.id: execute(piece.job) for piece in batch})
    assert sizes == [1, 6, 6]


def constant_zeros(job, criterion, slot):
    return 1.0 if criterion == "zeros" else hashed_theta(job, criterion, slot)


@pytest.mark.parametrize("selector", ["frequency", "effectiveness"])
def test_a_criterion_that_tells_no_slots_apart_judges_nothing(selector):
    strategy, work, decisions = run_selector(selector, make_space(12), theta=constant_zeros)
    assert strategy.abstained == ("zeros",)
    assert all("zeros" not in judges for judges in strategy.assignment.values())
    assert all(row["zeros"] == 0 and sum(row.values()) == pytest.approx(1) for row in strategy.weights.values())
    # it is asked once and then costs nothing more
    assert not any(d.removed for d in decisions if d.criteria == ("zeros",))
    assert all("zeros" not in piece.label for piece in work)


def test_a_criterion_that_singles_one_slot_out_removes_that_one_alone():
    odd = sa(5)[0]
    strategy, _, decisions = run_selector(
        "frequency",
        make_space(6),
        criteria=("weight", "zeros"),
        theta=lambda job, c, slot: 0.99 if slot == odd else constant_zeros(job, c, slot),
        turns=3,
        remove=3,
    )
    # in the next turn it has nothing left to say
    assert [(d.index, d.slot) for d in decisions if d.removed and d.criteria == ("zeros",)] == [(1, "SA.5")]
    assert max(d.index for d in decisions if d.criteria == ("zeros",)) == 2
    assert strategy.evidence[place("3.SA")]["zeros"] == 1
    assert strategy.abstained == ()


@pytest.mark.parametrize("selector", ["frequency", "effectiveness"])
def test_if_all_criteria_abstain_all_judge_alike(selector):
    strategy, work, _ = run_selector(selector, make_space(12), theta=lambda *_: 1.0)
    assert len(work) == 1
    assert strategy.abstained == CRITERIA
    assert set(strategy.assignment.values()) == {CRITERIA}
    assert all(row == pytest.approx(dict.fromkeys(CRITERIA, 1 / 6)) for row in strategy.weights.values())


def test_a_criterion_has_no_vote_on_a_kind_whose_slots_it_does_not_tell_apart():
    strategy, _, _ = run_selector(
        "frequency",
        make_space(6),
        criteria=("weight", "gradient"),
        theta=lambda job, c, slot: 1.0 if (c, slot.kind) == ("weight", "SA") else hashed_theta(job, c, slot),
        turns=2,
        remove=4,
    )
    assert all(row["weight"] == 0 for p, row in strategy.evidence.items() if p.kind == "SA")
    assert sum(row["weight"] for row in strategy.evidence.values()) == 6


def test_effectiveness_does_not_try_a_criterion_where_it_abstains():
    silent = Partition(1, "PA")
    where = partition_of(make_space(12).supernet.slots, 12)
    strategy, work, _ = run_selector(
        "effectiveness",
        make_space(12),
        criteria=("weight", "gradient"),
        theta=lambda job, c, slot: 0.3 if (c, where[slot]) == ("weight", silent) else hashed_theta(job, c, slot),
    )
    assert strategy.abstained == ()
    assert set(strategy.evidence[silent]) == {"gradient"}
    assert strategy.assignment[silent] == ("gradient",)
    assert strategy.weights[silent] == {"weight": 0, "gradient": 1}
    assert "warm-up 1.PA: all criteria" not in [piece.label for piece in work]


@pytest.mark.parametrize(("slots", "turns"), [(2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (9, 2), (10, 3)])
def test_a_chain_stops_before_it_runs_out_of_slots(slots, turns):
    space = make_space(12)
    start = space.supernet.without(space.supernet.slots[slots:])
    strategy, work, _ = run_selector("frequency", space, start=start, turns=5, remove=3)
    assert len({len(piece.job.architecture) for piece in work}) == turns
    assert sum(row["weight"] for row in strategy.evidence.values()) == 3 * turns
    # partitions of which nothing was left still have criteria
    assert set(strategy.assignment) == set(partition_of(space.supernet.slots, 12).values())
    assert strategy.assignment[Partition(3, "SA")] == CRITERIA


IMPORTANCE = {slot: 1 + n for n, slot in enumerate(make_space(12).supernet.slots)}


def lost(job):
    return float(sum(importance for slot, importance in IMPORTANCE.items() if slot not in job.architecture))


def test_effectiveness_by_hand():
    # weight knows what matters, zeros believes the reverse: wherever there is a choice weight hurts less
    strategy, work, decisions = run_selector(
        "effectiveness",
        make_space(12),
        criteria=("weight", "zeros"),
        theta=lambda job, c, slot: IMPORTANCE[slot] if c == "weight" else -IMPORTANCE[slot],
        loss=lost,
        train_size=60,
        epochs=2,
        holdout=0.25,
    )
    # blocks 2, 4, 4, 2: at most half of each, so 1, 2, 2, 1 of 3; slot PA.l matters 2 l + 1
    assert strategy.evidence[place("0.PA")] == {"weight": 1, "zeros": 3}
    assert strategy.evidence[place("1.PA")] == {"weight": 5 + 7, "zeros": 9 + 11}
    assert strategy.evidence[place("3.SA")] == {"weight": 22, "zeros": 24}
    assert set(strategy.assignment.values()) == {("weight",)}
    assert all(row["weight"] > row["zeros"] for row in strategy.weights.values())
    assert (strategy.select, strategy.seed, strategy.origin) == ("effectiveness", 11, {"task": "t"})
    assert len(work) == 1 + 8 * 2
    scoring, *trials = (piece.job for piece in work)
    assert (scoring.collect, scoring.architecture) == (("weight", "zeros"), make_space(12).supernet)
    for job in (scoring, *trials):
        assert (job.train_size, job.holdout, job.evaluate, job.training.epochs) == (60, 0.25, "holdout", 2)
    assert {job.collect for job in trials} == {()}
    assert {job.seed for job in trials} == {derive_seed(11, "warmup", 2)}
    assert work[0].label == "warm-up: scoring"
    assert work[1].label == "warm-up 0.PA: weight"
    assert {d.job_id for d in decisions} == {scoring.id}
    assert len(decisions) == 2 * 24
    assert sum(d.removed for d in decisions) == 2 * (1 + 2 + 2 + 1) * 2


def test_effectiveness_runs_equal_removals_once_and_they_tie():
    start = make_space(12).supernet.without([*pa(0), *sa(2, 3, 4, 5)])
    strategy, work, _ = run_selector("effectiveness", make_space(12), start=start)
    # one slot is left of 0.PA: all criteria choose it
    assert strategy.assignment[place("0.PA")] == CRITERIA
    assert sum(piece.label == "warm-up 0.PA: all criteria" for piece in work) == 1
    assert len({piece.job.id for piece in work}) == len(work) < 1 + 7 * 6
    # nothing is left of 1.SA
    assert place("1.SA") not in strategy.evidence
    assert strategy.assignment[place("1.SA")] == CRITERIA


@pytest.mark.parametrize("metrics", [{}, {"loss": float("nan")}, {"loss": float("inf")}])
def test_a_diverged_trial_is_an_error(metrics):
    space = make_space(4)
    warmup = WarmUp(
        template=make_template(make_spec(), space),
        config=WarmupConfig(select="effectiveness"),
        criteria=("weight",),
        partitions=partition_of(space.supernet.slots, 4),
    )
    steps = SELECTORS["effectiveness"].learn(warmup, space.supernet)
    scoring = next(steps)[0].job
    trials = steps.send({scoring.id: execute(scoring)})
    with pytest.raises(RunError, match=r"warm-up 0.PA: weight: the training diverged: the held-out loss is"):
        steps.send({piece.job.id: replace(execute(piece.job), metrics=metrics) for piece in trials})


def test_unknown_selector():
    with pytest.raises(InputError, match="unknown warm-up selector 'frequent': did you mean 'frequency'"):
        SELECTORS["frequent"]
