"""Transfer from another search: its strategy, without a warm-up, or its architecture (paper, Table 6)."""

from __future__ import annotations

from pydantic import Field

from prunepeft_baselines.pruning_family import pruning, with_pruning
from prunepeft_baselines.settled import Settled
from prunepeft_ray import Architecture, Config, InputError, JsonFile, MethodInfo, Problem, PrunePEFT, Strategy


class StrategyTransferOptions(Config):
    """Settings of strategy transfer."""

    strategy: JsonFile = Field(description="strategy.json of another search, relative to the study's file")


class ArchitectureTransferOptions(Config):
    """Settings of architecture transfer."""

    architecture: JsonFile = Field(description="architecture.json of another search, relative to the study's file")


def strategy_transfer(problem: Problem, options: StrategyTransferOptions) -> PrunePEFT:
    """Build PrunePEFT's rounds with the hybrid strategy of another search, without a warm-up (paper, Table 6).

    Args:
        problem: The problem; it must have the strategy's blocks, and only slot kinds that the strategy covers.
        options: The strategy.

    Raises:
        InputError: If the file contains no strategy, or one with an unknown criterion or different partitions; also see
            :class:`PrunePEFT`.
    """
    name = "strategy-transfer"
    problem = with_pruning(problem, dynamic=False)
    # errors that occur without the strategy as well must not be attributed to its file
    pruning(name, problem)
    return options.strategy.parse(lambda data: pruning(name, problem, Strategy.from_dict(data)))


def architecture_transfer(problem: Problem, options: ArchitectureTransferOptions) -> Settled:
    """Return the final architecture of another search, which is only retrained (paper, Table 6).

    Args:
        problem: The backbone and the budget; its space need not contain the slots.
        options: The architecture.

    Raises:
        InputError: If the file contains no architecture, or one that does not fit the backbone or exceeds the budget.
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
    "pruning with the strategy of another search, without a warm-up", strategy_transfer, StrategyTransferOptions
)
ARCHITECTURE_TRANSFER = MethodInfo(
    "the architecture of another search, without a search of its own",
    architecture_transfer,
    ArchitectureTransferOptions,
)
