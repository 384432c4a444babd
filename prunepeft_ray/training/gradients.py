"""Gradients of a batch, summed such that the result does not depend on which process computed which part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prunepeft_ray.training.group import Group


class GradientBuffer:
    """A buffer with one row per micro-batch: all gradients, followed by further values that are summed over examples.

    Each process fills the rows of its own micro-batches; the others are zero until the group sums them up. The rows are
    then added in order, so that the result is bitwise the same for any number of processes.

    Args:
        parameters: The trained parameters, all in fp32 on one device.
        extra: Number of further values.
        micro_batches: Number of rows.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], extra: int, micro_batches: int) -> None:
        self._parameters = parameters
        self._size = sum(p.numel() for p in parameters)
        self._rows = torch.zeros(micro_batches, self._size + extra, device=parameters[0].device)
        sizes = [p.numel() for p in parameters]
        self._views = [
            [view.view_as(p) for view, p in zip(row[: self._size].split(sizes), parameters, strict=True)]
            for row in self._rows
        ]

    @property
    def gradient(self) -> Tensor:
        """The batch's gradient as one vector, after :meth:`total`."""
        return self._rows[0, : self._size]

    def clear(self) -> None:
        """Start a new batch."""
        self._rows.zero_()

    def begin(self, micro_batch: int) -> None:
        """Make the next backward pass add to the row of that micro-batch."""
        for parameter, view in zip(self._parameters, self._views[micro_batch], strict=True):
            parameter.grad = view

    def put(self, micro_batch: int, extra: Tensor) -> None:
        """Store the further values of that micro-batch."""
        self._rows[micro_batch, self._size :] = extra

    def total(self, group: Group) -> Tensor:
        """Sum over processes and micro-batches; the parameters' gradients are then those of the batch.

        Returns:
            The sum of the further values, shape (extra,).
        """
        group.sum_(self._rows)
        for row in self._rows[1:]:
            self._rows[0] += row
        self.begin(0)
        return self._rows[0, self._size :]
