"""Methods whose answer is fixed without any training."""

from __future__ import annotations

from prunepeft_ray import Architecture, GeneratorMethod, Steps


class Settled(GeneratorMethod):
    """A method that is done as soon as it is built.

    Args:
        name: The method's name.
        architecture: Its answer.
    """

    planned = 0

    def __init__(self, name: str, architecture: Architecture) -> None:
        self.name = name
        super().__init__(_no_work(), architecture)


def _no_work() -> Steps[None]:
    yield from ()
