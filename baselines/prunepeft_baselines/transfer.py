"""What another search has found, used again: its strategy without a warm-up, or its architecture (paper, Table 6)."""

from __future__ import annotations

from pydantic import Field

from prunepeft_baselines.pruning_family import pruning, with_pruning
from prunepeft_baselines.settled import Settled
from prunepeft_ray import Architecture, Config, InputError, JsonFile, MethodInfo, Problem, PrunePEFT, Strategy


class StrategyTransferOptions(Config):
    """Settings of strategy transfer."""

    strategy: JsonFile = Field(description="the strategy.json of another search; relative to the study's file")


class ArchitectureTransferOptions(Config):
    """Settings of architecture transfer."""

    architecture: JsonFile = Field(description="the architecture.json of another search; relative to the study's file")


def strategy_transfer(problem: Problem, options: StrategyTransferOptions) -> PrunePEFT:
    """PrunePEFT's rounds by the hybrid strategy of another search, with no warm-up at all (paper, Table 6).

    Args:
        problem: What it works on; its blocks must be those of the strategy, which must know its slot kinds.
        options: The strategy.

    Raises:
        InputError: If the file holds no strategy, or one with an unknown criterion or of other partitions; or as
            :class:`PrunePEFT`.
    """
    name = "strategy-transfer"
    problem = with_pruning(problem, dynamic=False)
    # what is wrong without the strategy as well is not to be blamed on its file
    pruning(name, problem)
    return options.strategy.parse(lambda data: pruning(name, problem, Strategy.from_dict(data)))


def architecture_transfer(problem: Problem, options: ArchitectureTransferOptions) -> Settled:
    """The final architecture of another search, retrained and nothing else (paper, Table 6).

    Args:
        problem: The backbone and the budget; its space need not have the slots.
        options: The architecture.

    Raises:
        InputError: If the file holds no architecture, or one that the backbone cannot hold or that is above the budget.
    """
    return Settled("architecture-transfer", options.architecture.parse(lambda data: _checked(problem, data)))


def _checked(problem: Problem, data: object) -> Architecture:
    architecture = Architecture.from_dict(data)
    problem.check(architecture)
    if not problem.fits(architecture):
        raise InputError(
            f"the architecture has {problem.parameters(architecture):,} parameters, but the budget is "
            f"{problem.budget:,}: transfer one that was found within it, or raise the budget"
        )
    return architecture


STRATEGY_TRANSFER = MethodInfo(
    "pruning by the strategy of another search, without warm-up", strategy_transfer, StrategyTransferOptions
)
ARCHITECTURE_TRANSFER = MethodInfo(
    "the architecture of another search: no search of its own", architecture_transfer, ArchitectureTransferOptions
)
