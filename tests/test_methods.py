"""What a method is given, and how it is found by name."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from tiny import filled

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import CandidateConfig, Config, PruningConfig, load_spec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.plan import plan_search
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.methods import METHODS, MethodInfo, MethodRegistry, Problem
from prunepeft_ray.modules import MODULE_TYPES, AdaptedBackbone, module_cost
from prunepeft_ray.pruning import PrunePEFT
from prunepeft_ray.seeds import derive_seed
from prunepeft_ray.tasks import TaskData


@pytest.fixture(scope="module")
def backbone(tiny_bert):
    return load_backbone(tiny_bert)


class Data:
    """All that planning asks of a task."""

    fingerprint, metric, train = "t", "accuracy", range(100)


def make_problem(backbone, seed=0, candidate=None, **settings):
    data: TaskData = Data()
    values = {"model": "m", "task": "t", "budget": "1500", "seed": seed, "space": {"rank": 4, "bottleneck": 4}}
    spec = load_spec(None, values | settings)
    plan = plan_search(spec, backbone, data)
    return Problem(
        spec=spec,
        space=plan.space,
        budget=plan.budget,
        template=plan.template,
        hidden=backbone.hidden_size,
        cost=lambda slot, module_type: module_cost(backbone, slot, module_type),
        candidate=candidate or CandidateConfig(),
    )


@pytest.fixture(scope="module")
def problem(backbone):
    return make_problem(backbone)


# parameters


def counted(backbone, problem, architecture):
    """Elements of all tensors that belong to slots, as torch has them."""
    with AdaptedBackbone(backbone, architecture, problem.spec.modules, num_outputs=2, seed=0) as adapted:
        assert set(adapted.slot_parameters) == set(architecture.slots)
        return sum(p.numel() for parameters in adapted.slot_parameters.values() for p in parameters)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("module_type", sorted(set(MODULE_TYPES) - {"adalora"}))
def test_parameters_are_what_torch_counts_also_of_kinds_that_the_space_lacks(backbone, problem, module_type, size):
    architecture = filled(4, module_type, size=size)
    assert problem.parameters(architecture) == counted(backbone, problem, architecture) > 0


def test_parameters_of_a_mixed_architecture_add_up(backbone, problem):
    architecture = Architecture.of(
        {
            Slot(0, "PA"): Module("dora", 2),
            Slot(1, "SA"): Module("houlsby", 3),
            Slot(1, "PF"): Module("parallel", 5),
            Slot(3, "PT"): Module("prefix", 2),
        }
    )
    assert problem.parameters(architecture) == counted(backbone, problem, architecture)
    # by hand, hidden size 32: LoRA on query and value, with DoRA's magnitudes
    assert problem.parameters(Architecture.of({Slot(0, "PA"): Module("lora", 2)})) == 2 * 2 * (32 + 32)
    assert problem.parameters(Architecture.of({Slot(0, "PA"): Module("dora", 2)})) == 2 * (2 * (32 + 32) + 32)
    assert problem.parameters(Architecture()) == 0


def test_parameters_in_the_space_are_those_of_the_space(problem):
    assert problem.parameters(problem.space.supernet) == problem.space.parameters(problem.space.supernet)
    assert (problem.layers, problem.hidden, problem.seed, problem.budget) == (4, 32, 0, 1500)


def test_an_architecture_fits_up_to_the_budget_exactly(backbone):
    one = Architecture.of({Slot(0, "PA"): Module("lora", 4)})
    assert make_problem(backbone, budget="512").fits(one)
    assert not make_problem(backbone, budget="511").fits(one)


@pytest.mark.parametrize(
    ("slot", "module", "says"),
    [
        (Slot(4, "SA"), Module("pfeiffer", 1), "slot SA.4 does not exist: the backbone has 4 layers"),
        (Slot(0, "SA"), Module("lora", 1), "slot SA.0 cannot hold a 'lora' module, which fills PA slots"),
        (Slot(0, "SA"), Module("pfeifer", 1), "did you mean 'pfeiffer'"),
    ],
)
def test_what_the_backbone_cannot_hold_is_refused(problem, slot, module, says):
    with pytest.raises(InputError, match=says):
        problem.check(Architecture.of({slot: module}))
    problem.check(filled(4, "prefix", "houlsby"))


# jobs


def test_all_candidates_of_a_search_share_a_seed_of_their_own(backbone, problem):
    one, two = (problem.candidate_work(filled(layers, "lora"), "c") for layers in (1, 2))
    assert one.job.seed == two.job.seed == derive_seed(0, "candidate")
    assert make_problem(backbone, seed=1).candidate_work(filled(1, "lora"), "c").job.seed != one.job.seed
    # an equal one is the same job, whatever it is called
    assert problem.candidate_work(filled(1, "lora"), "again").job.id == one.job.id
    assert (one.kind, one.label, one.job.test, one.job.evaluate) == ("candidate", "c", False, "dev")


def test_a_candidate_is_trained_as_the_study_says_unless_the_method_says_otherwise(backbone):
    problem = make_problem(backbone, candidate=CandidateConfig(epochs=3, train_size=40))
    job = problem.candidate_work(filled(1, "lora"), "c").job
    assert (job.training.epochs, job.training.patience, job.train_size) == (3, None, 40)
    job = problem.candidate_work(filled(1, "lora"), "c", epochs=7, train_size=50).job
    assert (job.training.epochs, job.train_size) == (7, 50)
    job = make_problem(backbone).candidate_work(filled(1, "lora"), "c").job
    assert (job.training.epochs, job.train_size) == (1, None)


@given(seed=st.integers(-5, 2**40))
def test_the_final_job_is_the_one_that_pruning_ends_with(backbone, seed):
    problem = make_problem(backbone, seed=seed, pruning={"rounds": 1, "criteria": ["weight"]})
    method = PrunePEFT(problem.spec, problem.space, problem.budget, problem.template)
    (work,) = method.ask()
    scores = {"weight": {str(slot): float(i) for i, slot in enumerate(work.job.architecture.slots)}}
    method.tell(work.job, TrainResult(0, 0, (), 1, {"accuracy": 0.5}, scores=scores))
    (final,) = method.ask()
    ours = problem.final_job(method.best(), seed)
    assert final.job == ours
    assert final.job.id == ours.id
    assert ours.test
    assert ours.training == problem.spec.training
    assert ours.id != problem.final_job(method.best(), seed + 1).id


def test_another_seed_of_the_search_changes_no_final_job(backbone):
    one, two = make_problem(backbone, seed=1), make_problem(backbone, seed=2)
    assert one.final_job(filled(1, "lora"), 5).id == two.final_job(filled(1, "lora"), 5).id


# values and settings


def test_the_value_is_the_primary_metric_on_dev(problem):
    result = TrainResult(1, 1, (), 1, {"accuracy": 0.75, "f1": 0.1, "loss": 3.0}, test={"accuracy": 0.9})
    assert problem.value(result) == 0.75


def test_a_failed_job_is_worth_less_than_any_other(problem):
    failed = TrainResult(0, 0, (), 0, {"accuracy": 0.9}, status="failed", reason="NaN")
    assert problem.value(failed) == -math.inf
    assert problem.value(TrainResult(1, 1, (), 1, {"f1": 0.9})) == -math.inf


def test_a_problem_under_other_settings_is_otherwise_the_same(problem):
    other = problem.with_spec(pruning=PruningConfig(rounds=7))
    assert (other.spec.pruning.rounds, problem.spec.pruning.rounds) == (7, 3)
    assert (other.space, other.budget, other.template) == (problem.space, problem.budget, problem.template)


# the registry


class ToyOptions(Config):
    criterion: str = "weight"
    size: int = Field(1, ge=1)


@pytest.fixture
def registry():
    found = MethodRegistry()
    found._points = found._installed = {}
    found.register("toy", MethodInfo("toy", lambda problem, options: (problem, options), ToyOptions, "criterion"))
    found.register("plain", MethodInfo("toy", lambda problem, options: (problem, options)))
    found.register("a:b", MethodInfo("toy", lambda problem, options: "exact"))
    return found


def refusal(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_unknown_method_gets_the_nearest_and_all_known(registry):
    assert refusal(registry.build, "tyo", None) == "unknown method 'tyo': did you mean 'toy'? known: a:b, plain, toy"
    assert refusal(registry.options, "plane", {}).startswith("unknown method 'plane': did you mean 'plain'?")
    assert refusal(registry.__getitem__, "zzz") == "unknown method 'zzz': known: a:b, plain, toy"
    assert refusal(registry.build, "tyo:weight", None).startswith("unknown method 'tyo'")


def test_what_follows_a_colon_is_an_option(registry):
    _, options = registry.build("toy:gradient", "p", {"size": 3})
    assert options == ToyOptions(criterion="gradient", size=3)
    # the name of the method is all that counts for the rest
    assert registry["toy:gradient"] is registry["toy"]
    assert registry.build("toy", "p", {}) == ("p", ToyOptions())
    assert registry.build("toy", "p") == ("p", ToyOptions())


def test_a_name_with_a_colon_of_its_own_is_found(registry):
    assert registry.build("a:b", None) == "exact"


def test_a_method_without_an_argument_takes_nothing_after_a_colon(registry):
    assert refusal(registry.build, "plain:x", None) == "method 'plain:x': 'plain' takes no argument after a colon"


def test_options_are_checked_with_the_method_named(registry):
    assert refusal(registry.options, "toy", {"sise": 1}) == ("method 'toy': unknown key 'sise'; did you mean 'size'?")
    assert refusal(registry.options, "toy:weight", {"size": 0}).startswith("method 'toy:weight': size: ")
    assert refusal(registry.options, "plain", {"size": 1}).startswith("method 'plain': unknown key 'size'")


def test_an_option_cannot_be_given_twice(registry):
    message = refusal(registry.options, "toy:gradient", {"criterion": "weight"})
    assert message == "method 'toy:gradient': the criterion is given twice: after the colon and under options"
    assert registry.options("toy:gradient", {"criterion": "gradient"}).criterion == "gradient"


def test_a_name_can_be_taken_once(registry):
    with pytest.raises(ValueError, match="method 'toy' is already registered"):
        registry.register("toy", registry["plain"])


def test_installed_methods_are_found_and_cannot_be_replaced():
    assert "prunepeft" in METHODS
    assert {"random-search", "autopeft", "single"} <= set(METHODS)
    assert len(METHODS) == len(list(METHODS))
    with pytest.raises(ValueError, match="method 'random-search' is already registered"):
        MethodRegistry().register("random-search", METHODS["random-search"])


def test_only_references_may_end_over_the_budget():
    assert {name for name in METHODS if METHODS[name].reference} == {"full", "lora-rank", "no-pruning"}
