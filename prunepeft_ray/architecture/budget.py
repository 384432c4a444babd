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
        text: The budget; a percentage refers to the backbone's parameters, as in the paper.
        backbone_parameters: Number of parameters of the backbone without its task head.

    Returns:
        The maximum number of PEFT parameters, rounded down.

    Raises:
        InputError: If the text is not a budget, or the budget is not above zero.
    """
    compact = text.strip().lower().replace("_", "")
    # a comma separates thousands; as a decimal comma (1,5M) it would be off by a factor of ten, so that is rejected
    if re.match(r"[+-]?\d{1,3}(,\d{3})+(?!\d)", compact):
        compact = compact.replace(",", "")
    match = re.fullmatch(r"([+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?|[+-]?\.\d+)\s*(%|[kmb]?)", compact)
    if not match:
        raise InputError(f"budget '{text}' cannot be read: expected a number (300000, 1.5M) or a percentage (1%)")
    number, unit = float(match[1]), match[2]
    exact = number / 100 * backbone_parameters if unit == "%" else number * _UNITS[unit]
    if not math.isfinite(exact):
        raise InputError(f"budget '{text}' is too large")
    # in binary floating point, 0.1% of a round number may come out slightly too small
    budget = int(exact + 1e-6)
    if budget < 1:
        raise InputError(f"budget '{text}' allows no parameter at all: it must be above 0")
    return budget


def check_budget(text: str, budget: int, space: Space) -> None:
    """Check that a budget leaves something to search for.

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
    """Check that at least one slot fits the budget.

    Args:
        space: The slots and their costs.
        budget: Maximum number of parameters of an architecture.

    Raises:
        InputError: If no slot fits the budget.
    """
    smallest = min(space.slot_parameters(slot) for slot in space.supernet.slots)
    if budget < smallest:
        raise InputError(f"a budget of {budget:,} parameters is too small for any slot: the smallest has {smallest:,}")
