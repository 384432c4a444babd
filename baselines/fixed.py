"""Methods that do not search: the architecture follows from the problem."""

from __future__ import annotations

from prunepeft_ray import Architecture, GeneratorMethod, Steps


def _no_work() -> Steps[None]:
    yield from ()


class FixedMethod(GeneratorMethod):
    """A method that is done at once.

    Args:
        name: Its name.
        architecture: Its answer.
    """

    def __init__(self, name: str, architecture: Architecture) -> None:
        super().__init__(_no_work(), architecture)
        self.name = name
