"""Parameter budgets: a number of parameters or a share of the backbone."""

from __future__ import annotations

import math
import re

from prunepeft_ray.architecture.space import Space
from prunepeft_ray.errors import InputError

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def parse_budget(text: str, backbone_parameters: int) -> int:
    """Read a budget such as ``"300000"``, ``"300k"``, ``"1.5M"`` or ``"1%"``.

    Args:
        text: The budget; a percentage is of the backbone's parameters, as in the paper.
        backbone_parameters: Parameters of the backbone without its task head.

    Returns:
        The most PEFT parameters allowed, rounded down.

    Raises:
        InputError: If the text is no budget, or the budget is not above zero.
    """
    compact = text.strip().lower().replace("_", "")
    # a comma separates thousands; as a decimal point (1,5M) it would be misread tenfold, so that is refused
    if re.match(r"[+-]?\d{1,3}(,\d{3})+(?!\d)", compact):
        compact = compact.replace(",", "")
    match = re.fullmatch(r"([+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?|[+-]?\.\d+)\s*(%|[kmb]?)", compact)
    if not match:
        raise InputError(f"budget '{text}' cannot be read: expected a number (300000, 1.5M) or a percentage (1%)")
    number, unit = float(match[1]), match[2]
    exact = number / 100 * backbone_parameters if unit == "%" else number * _UNITS[unit]
    if not math.isfinite(exact):
        raise InputError(f"budget '{text}' is too large")
    # 0.1% of a round number may come out a hair below it in binary floating point
    budget = int(exact + 1e-6)
    if budget < 1:
        raise InputError(f"budget '{text}' allows no parameter at all: it must be above 0")
    return budget


def check_budget(text: str, budget: int, space: Space) -> None:
    """Make sure that a budget leaves something to search for.

    Raises:
        InputError: If the budget is not below the supernet, or too small for any slot.
    """
    supernet = space.parameters(space.supernet)
    smallest = min(space.slot_parameters(slot) for slot in space.supernet.slots)
    if budget >= supernet:
        raise InputError(
            f"budget '{text}' is {budget:,} parameters, but the whole supernet has only {supernet:,}: "
            "nothing would be pruned; give a smaller budget or a larger space (sizes in 'space', such as space.rank)"
        )
    if budget < smallest:
        raise InputError(
            f"budget '{text}' is {budget:,} parameters, but the smallest slot has {smallest:,}: "
            "give a larger budget or smaller modules (sizes in 'space', such as space.rank)"
        )


def check_holds_slot(space: Space, budget: int) -> None:
    """Make sure that a budget leaves an architecture that is not empty.

    Args:
        space: Knows what slots cost.
        budget: Most parameters of an architecture.

    Raises:
        InputError: If no slot fits the budget.
    """
    smallest = min(space.slot_parameters(slot) for slot in space.supernet.slots)
    if budget < smallest:
        raise InputError(f"a budget of {budget:,} parameters holds no slot: the smallest has {smallest:,}")
