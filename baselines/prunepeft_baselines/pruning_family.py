"""Variants and ablations of PrunePEFT (paper, Tables 4 and 5)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field

from prunepeft_ray import Config, MethodInfo, NoOptions, Problem, PrunePEFT, Strategy

PAPER_CRITERIA = ("weight", "zeros", "threshold", "activation", "sensitivity", "gradient")
Variant = Literal["default", "low-fidelity", "dynamic", "effectiveness"]


class PrunePEFTOptions(Config):
    """Settings of PrunePEFT as a method of a study; all others come from the study's search settings."""

    variant: Variant = Field(
        "default",
        description="low-fidelity: rounds train on few examples; dynamic: the strategy is relearned before every "
        "round; effectiveness: the strategy is learned from held-out losses",
    )
    train_size: int | None = Field(
        None, ge=1, description="examples in a low-fidelity round; default: the size of the warm-up's subset d"
    )


class SingleOptions(Config):
    """Settings of pruning by a single criterion."""

    criterion: str = Field(description="the criterion that judges all slots")


def prunepeft(problem: Problem, options: PrunePEFTOptions) -> PrunePEFT:
    """Build PrunePEFT itself (paper, Algorithm 1), or a variant.

    In the ``low-fidelity`` variant, the rounds also train on a subset d of the data instead of D (paper, Table 4). It
    has the size of the warm-up's d, by default 100 examples as in the released code; the paper uses 1 % of GLUE's
    tasks, which would be too little for a small task.

    Raises:
        InputError: See :class:`PrunePEFT`.
    """
    spec = problem.spec
    changes: dict[str, Config] = {}
    if options.variant == "low-fidelity":
        size = options.train_size or spec.warmup.train_size
        changes = {"pruning": spec.pruning.model_copy(update={"train_size": size})}
    elif options.variant == "dynamic":
        changes = {"pruning": spec.pruning.model_copy(update={"dynamic": True})}
    elif options.variant == "effectiveness":
        changes = {"warmup": spec.warmup.model_copy(update={"select": "effectiveness"})}
    return pruning("prunepeft", problem.with_spec(**changes))


def single(problem: Problem, options: SingleOptions) -> PrunePEFT:
    """Build PrunePEFT with a single criterion for the whole model, without warm-up and blocks (paper, Table 5).

    Choosing the best criterion by its test result, as the paper does, makes this an oracle.

    Raises:
        InputError: If the criterion is unknown; also see :class:`PrunePEFT`.
    """
    return pruning("single", with_pruning(problem, criteria=(options.criterion,), blocks="none"))


def no_partition(problem: Problem, _options: NoOptions) -> PrunePEFT:
    """Build PrunePEFT without blocks of layers; slot kinds still get their own criteria (paper, Table 5).

    Raises:
        InputError: See :class:`PrunePEFT`.
    """
    return pruning("no-partition", with_pruning(problem, blocks="none"))


def with_pruning(problem: Problem, **changes: Any) -> Problem:
    """Return a problem with changed settings of ``pruning``."""
    return problem.with_spec(pruning=problem.spec.pruning.model_copy(update=changes))


def pruning(name: str, problem: Problem, strategy: Strategy | None = None) -> PrunePEFT:
    """Build PrunePEFT for a problem.

    Args:
        name: The method's name.
        problem: The problem to solve.
        strategy: A hybrid strategy learned earlier.

    Raises:
        InputError: See :class:`PrunePEFT`.
    """
    method = PrunePEFT(problem.spec, problem.space, problem.budget, problem.template, strategy)
    method.name = name
    return method


PRUNEPEFT = MethodInfo(
    "hybrid pruning of a supernet: warm-up and rounds", prunepeft, PrunePEFTOptions, "variant", get_args(Variant)
)
SINGLE = MethodInfo(
    "pruning by a single criterion for the whole model", single, SingleOptions, "criterion", PAPER_CRITERIA
)
NO_PARTITION = MethodInfo("hybrid pruning without blocks of layers", no_partition)
