"""What another search has found, used again."""

import json
import random

import pytest
from baseline_toys import drive, make_problem
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import SMALL, study_here

from prunepeft_baselines.pruning_family import PRUNEPEFT
from prunepeft_baselines.transfer import ARCHITECTURE_TRANSFER, STRATEGY_TRANSFER
from prunepeft_ray import METHODS, Architecture, InputError, Module, ResultsStore, RunFolder, Slot, Strategy
from prunepeft_ray.architecture import partition_of
from prunepeft_ray.config import PAPER_CRITERIA, validate
from prunepeft_ray.execution import GroupExecutor
from prunepeft_ray.study import load_study

WEIGHT_AND_ZEROS = ("weight", "zeros")


def strategy_for(problem, criteria=WEIGHT_AND_ZEROS):
    """The strategy that trusts some criteria alike everywhere, as a file has it."""
    partitions = partition_of(problem.space.supernet.slots, problem.layers, problem.spec.pruning.blocks)
    return Strategy.uniform(partitions.values(), criteria).to_dict()


def of_strategy(problem, content):
    file = {"file": "amazon/strategy.json", "content": content}
    return STRATEGY_TRANSFER.build(problem, STRATEGY_TRANSFER.options(strategy=file))


def of_architecture(problem, content):
    file = {"file": "amazon/architecture.json", "content": content}
    return ARCHITECTURE_TRANSFER.build(problem, ARCHITECTURE_TRANSFER.options(architecture=file))


def slots(*filled):
    """An architecture as a file has it: layer, kind, module type and size of each slot."""
    return {"slots": [dict(zip(("layer", "kind", "module", "size"), one, strict=True)) for one in filled]}


# strategy transfer


def test_the_rounds_follow_the_strategy_without_a_warm_up():
    problem = make_problem(layers=6)
    method = of_strategy(problem, strategy_for(problem))
    work = drive(method)
    assert method.name == "strategy-transfer"
    assert {piece.kind for piece in work} == {"round", "final"}
    assert method.planned == 3 + 1 >= len(work)
    assert {decision.criteria for decision in method.decisions} == {WEIGHT_AND_ZEROS}


def test_it_ends_where_the_search_that_learned_the_strategy_ended():
    problem = make_problem(layers=6)
    source = PRUNEPEFT.build(problem, PRUNEPEFT.options())
    work = [piece.job.id for piece in drive(source) if piece.kind != "warmup"]
    transferred = of_strategy(problem, json.loads(json.dumps(source.strategy.to_dict())))
    assert [piece.job.id for piece in drive(transferred)] == work
    assert transferred.best() == source.best()


def test_another_strategy_chooses_otherwise():
    problem = make_problem(layers=6)
    found = set()
    for criterion in PAPER_CRITERIA:
        method = of_strategy(problem, strategy_for(problem, (criterion,)))
        drive(method)
        found.add(method.best())
    assert len(found) > 1


def test_it_repeats_itself_in_any_order_of_results():
    problem = make_problem(layers=6, seed=3)
    one, other = (of_strategy(problem, strategy_for(problem)) for _ in range(2))
    assert [p.job.id for p in drive(one)] == [p.job.id for p in drive(other, shuffle=random.Random(0))]


@given(source=st.integers(4, 24), layers=st.integers(4, 12), share=st.floats(0.2, 0.95))
@settings(max_examples=15)
def test_a_strategy_of_another_depth_ends_within_the_budget(source, layers, share):
    whole = make_problem(layers)
    budget = int(share * whole.space.parameters(whole.space.supernet))
    problem = make_problem(layers, budget=budget)
    method = of_strategy(problem, strategy_for(make_problem(source)))
    drive(method)
    assert 0 < problem.parameters(method.best()) <= budget


def test_a_strategy_of_more_slot_kinds_serves_for_some_of_them():
    problem = make_problem(layers=6, kinds=["PA"])
    method = of_strategy(problem, strategy_for(make_problem(layers=6, kinds=["PA", "SA"])))
    drive(method)
    assert {slot.kind for slot in method.best().slots} == {"PA"}


def test_nothing_is_learned_even_where_the_study_learns_before_every_round():
    problem = make_problem(layers=6, pruning={"dynamic": True})
    assert {piece.kind for piece in drive(of_strategy(problem, strategy_for(problem)))} == {"round", "final"}


@pytest.mark.parametrize("other", [{"kinds": ["PA"]}, {"pruning": {"blocks": "none"}}], ids=["kinds", "blocks"])
def test_a_strategy_that_lacks_a_partition_is_refused(other):
    content = strategy_for(make_problem(layers=6, **other))
    missing = "0.SA" if "kinds" in other else "1.PA"
    says = f"^amazon/strategy.json: the strategy lacks partition {missing}; its partitions are .*: use the pruning"
    with pytest.raises(InputError, match=says):
        of_strategy(make_problem(layers=6), content)


def test_a_strategy_of_more_blocks_is_refused():
    problem = make_problem(layers=6, pruning={"blocks": "none"})
    with pytest.raises(
        InputError, match=r"^amazon/strategy.json: the strategy has partition 1\.PA, which does not exist here"
    ):
        of_strategy(problem, strategy_for(make_problem(layers=6)))


def test_a_strategy_with_an_unknown_criterion_is_refused():
    problem = make_problem(layers=6)
    with pytest.raises(InputError, match=r"^amazon/strategy.json: unknown criterion 'wieght': did you mean 'weight'"):
        of_strategy(problem, strategy_for(problem, ("wieght",)))


@pytest.mark.parametrize("content", [None, 3, "weight", [], {}, {"slots": []}, {"select": "frequency"}])
def test_what_is_no_strategy_is_refused(content):
    with pytest.raises(
        InputError, match=r"^amazon/strategy.json: not a strategy, such as the strategy.json of a search"
    ):
        of_strategy(make_problem(), content)


def test_what_is_wrong_without_the_strategy_is_not_blamed_on_its_file():
    problem = make_problem()
    with pytest.raises(InputError, match=r"^a budget of 5 parameters is too small for any slot"):
        of_strategy(make_problem(budget=5), strategy_for(problem))


# architecture transfer

# hidden size 32: LoRA of rank 2 in a slot is 2 * 64 * 2, an adapter of 4 is 4 * 65 + 32
FOUND = slots((3, "SA", "pfeiffer", 4), (1, "PA", "lora", 2))
FOUND_PARAMETERS = 292 + 256


@pytest.mark.parametrize("kinds", [["PA", "SA"], ["PT"]])
def test_the_architecture_is_the_answer_at_once_whatever_the_space(kinds):
    problem = make_problem(budget=FOUND_PARAMETERS, kinds=kinds)
    method = of_architecture(problem, FOUND | {"supernet": slots((0, "PA", "lora", 2))})
    assert (method.name, method.done, method.ask(), method.planned) == ("architecture-transfer", True, (), 0)
    assert dict(method.best()) == {Slot(1, "PA"): Module("lora", 2), Slot(3, "SA"): Module("pfeiffer", 4)}
    assert problem.parameters(method.best()) == FOUND_PARAMETERS


def test_an_architecture_above_the_budget_is_refused():
    says = (
        r"^amazon/architecture.json: the architecture has 548 parameters, but the budget is 547: transfer one that was "
        "found within it, or raise the budget$"
    )
    with pytest.raises(InputError, match=says):
        of_architecture(make_problem(budget=FOUND_PARAMETERS - 1), FOUND)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (slots((4, "PA", "lora", 2)), r"slot PA\.4 does not exist: the backbone has 4 layers"),
        (slots((0, "PA", "pfeiffer", 2)), r"slot PA\.0 cannot hold a 'pfeiffer'"),
        (slots((0, "PA", "lroa", 2)), r"unknown module type 'lroa': did you mean 'lora'"),
        (slots((0, "PA", "lora", 2), (0, "PA", "lora", 3)), r"not an architecture: a slot is filled twice"),
        (slots((0, "XX", "lora", 2)), r"not an architecture, such as the architecture\.json of a search: "),
        (slots((0, "PA", "lora", 0)), r"not an architecture, such as the architecture\.json of a search: "),
        ({"select": "frequency"}, r"not an architecture, such as the architecture\.json of a search: "),
        (None, r"not an architecture, such as the architecture\.json of a search: "),
    ],
)
def test_an_architecture_that_the_model_cannot_hold_is_refused(content, says):
    with pytest.raises(InputError, match=rf"^amazon/architecture\.json: {says}"):
        of_architecture(make_problem(), content)


@pytest.mark.parametrize(
    ("info", "key"),
    [(STRATEGY_TRANSFER, "strategy"), (ARCHITECTURE_TRANSFER, "architecture")],
    ids=["strategy", "architecture"],
)
def test_an_option_that_names_no_json_file_says_what_is_expected(info, key):
    with pytest.raises(
        InputError, match=f"^method: {key}: expected the path of a file that ends in .json, got 'amazon'"
    ):
        validate(info.options, {key: "amazon"}, "method")
    with pytest.raises(InputError, match=f"^method: '{key}' is missing"):
        validate(info.options, {}, "method")


# a study


@pytest.fixture
def study(tmp_path, tiny_bert, monkeypatch):
    """A study of both transfers in a file, beside what another search is to have left."""
    for name, info in {"strategy-transfer": STRATEGY_TRANSFER, "architecture-transfer": ARCHITECTURE_TRANSFER}.items():
        monkeypatch.setitem(METHODS._items, name, info)
    (tmp_path / "task.csv").write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(80)))
    (tmp_path / "strategy.json").write_text(json.dumps(strategy_for(make_problem())))
    (tmp_path / "architecture.json").write_text(json.dumps(FOUND))
    methods = [
        {"name": "strategy-transfer", "label": "my strategy", "options": {"strategy": "strategy.json"}},
        {"name": "architecture-transfer", "label": "mine", "options": {"architecture": "architecture.json"}},
    ]
    axes = {"methods": methods, "tasks": [str(tmp_path / "task.csv")], "models": [tiny_bert], "seeds": [0, 1]}
    # JSON is YAML
    (tmp_path / "study.yaml").write_text(json.dumps(SMALL | axes))
    return tmp_path / "study.yaml"


def answers(path):
    """Every search's answer, and the dev metrics of all jobs."""
    store = ResultsStore(path / "results")
    searches = store.read("searches")[["method", "seed", "status", "reason", "architecture"]]
    metrics = {job: store.find(job).metrics for job in store.read("jobs").job_id}
    return sorted(searches.itertuples(index=False, name=None)), metrics


class Killed(BaseException):
    """The process is gone."""


def kill_after(monkeypatch, jobs):
    """Let the process be killed once some jobs have run."""
    run, ran = GroupExecutor.run, []

    def killed(executor, work):
        if len(ran) == jobs:
            raise Killed
        ran.append(work)
        return run(executor, work)

    monkeypatch.setattr(GroupExecutor, "run", killed)


def test_a_study_transfers_and_a_killed_one_needs_the_files_no_more(study, tmp_path, monkeypatch):
    folder, trained = study_here(load_study(study), tmp_path / "whole")
    searches, _ = whole = answers(folder.path)
    assert [(method, seed, status) for method, seed, status, *_ in searches] == [
        (label, seed, "done") for label in ("mine", "my strategy") for seed in (0, 1)
    ]
    assert {work.kind for work in trained} == {"round", "final"}
    assert {Architecture.from_json(row[-1]) for row in searches if row[0] == "mine"} == {Architecture.from_dict(FOUND)}

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        study_here(load_study(study), tmp_path / "killed")
    (study.parent / "strategy.json").write_text(json.dumps(strategy_for(make_problem(), ("gradient",))))
    (study.parent / "architecture.json").unlink()
    _, rest = study_here(RunFolder.open(tmp_path / "killed").study, tmp_path / "killed")
    assert answers(tmp_path / "killed") == whole
    assert len(rest) == len(trained) - 3


def test_a_study_that_is_given_more_refuses_a_file_that_has_changed(study):
    before = load_study(study)
    (study.parent / "strategy.json").write_text(json.dumps(strategy_for(make_problem(), ("gradient",))))
    with pytest.raises(
        InputError, match=r"methods\.my strategy\.options\.strategy\.content\.criteria: .* there, .* here"
    ):
        load_study(study).check_extends(before, "runs/x")
