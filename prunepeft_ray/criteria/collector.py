"""Collection of the statistics of all criteria in one training pass, on the device.

Nothing is copied to the host before :meth:`Collector.thetas`. Statistics that are linear in the examples of a batch are
returned as one vector per micro-batch, so that callers who split batches or share them among workers can add them up.

Everything is accumulated separately for two halves of the pass, so that the noise in Theta can be estimated: even and
odd optimiser steps, which differ only in the batches they saw. Criteria of the weights see no batches; their noise is
that of the randomly initialised entries, and their halves are every other entry of a module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunepeft_ray.architecture import Slot
from prunepeft_ray.criteria.base import CRITERIA


@dataclass(frozen=True)
class Update:
    """Where to observe a slot's own output.

    Args:
        slot: The slot.
        module: The submodule whose output, times ``scale``, is the slot's update to the hidden state at one site.
        scale: Factor on the output.
        width: Width of the update.
    """

    slot: Slot
    module: nn.Module
    scale: float
    width: int


class Collector:
    """Accumulates what the criteria need while a job trains.

    Args:
        names: Criteria to collect.
        parameters: Each slot's parameters.
        updates: Each slot's outputs, one per site.
        device: Where to accumulate.
        threshold: Fixed t of the ``threshold`` criterion; None for a quantile per slot kind.
        threshold_quantile: The quantile to use as t.

    Raises:
        InputError: If a criterion is unknown.
    """

    def __init__(
        self,
        names: Sequence[str],
        parameters: Mapping[Slot, Sequence[nn.Parameter]],
        updates: Sequence[Update],
        device: torch.device,
        threshold: float | None = None,
        threshold_quantile: float = 0.1,
    ) -> None:
        self._names = tuple(names)
        criteria = [CRITERIA[name] for name in names]
        self._of_weights = [c for c in criteria if c.of_weights]
        self._of_step = [c for c in criteria if c.of_step]
        self._of_output = [c for c in criteria if c.of_output]
        self._of_output_gradient = [c for c in criteria if c.of_output_gradient]
        self._parameters = parameters
        self._updates = updates
        self._threshold = threshold
        self._quantile = threshold_quantile
        self._slots = list(parameters)
        index = {slot: i for i, slot in enumerate(self._slots)}
        self._weights = [p for slot in self._slots for p in parameters[slot]]
        self._slot_of_weight = torch.tensor(
            [index[slot] for slot in self._slots for _ in parameters[slot]], dtype=torch.long, device=device
        )
        self._slot_of_update = torch.tensor([index[u.slot] for u in updates], dtype=torch.long, device=device)
        self._scales = torch.tensor([u.scale for u in updates], device=device)
        self._sizes = self._per_slot([sum(p.numel() for p in parameters[slot]) for slot in self._slots], device)
        self._widths = self._per_slot([sum(u.width for u in updates if u.slot == s) for s in self._slots], device)

        self._mask = torch.empty(0, device=device)
        self._outputs: list[dict[int, Tensor]] = [{} for _ in self._of_output]
        self._output_gradients: list[dict[int, Tensor]] = [{} for _ in self._of_output_gradient]
        # the first dimension of all sums is the half
        self._step_sums = self._zeros(len(self._of_step), len(self._slots))
        self._output_sums = self._zeros(len(self._of_output), len(self._slots))
        self._gate_sums = self._zeros(len(self._of_output_gradient), len(self._slots))
        self._tokens = self._zeros()
        self._steps = 0
        self._seen: dict[tuple[int, ...], Tensor] = {}

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(2, *shape, dtype=torch.float64, device=self._sizes.device)

    @staticmethod
    def _per_slot(values: Sequence[int], device: torch.device) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    @property
    def vector_size(self) -> int:
        """Length of :meth:`micro_batch_vector`."""
        return (len(self._of_output) + len(self._of_output_gradient)) * len(self._slots) + 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Return a context in which the modules' outputs and their gradients are observed."""
        handles = []
        if self._of_output or self._of_output_gradient:
            handles = [u.module.register_forward_hook(self._hook(i)) for i, u in enumerate(self._updates)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, index: int) -> Any:
        def on_forward(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                return
            values = output.detach()
            for criterion, outputs in zip(self._of_output, self._outputs, strict=True):
                assert criterion.of_output
                outputs[index] = criterion.of_output(values)
            if self._of_output_gradient:
                output.register_hook(lambda gradient: on_backward(values, gradient))  # type: ignore[no-untyped-call]

        def on_backward(values: Tensor, gradient: Tensor) -> None:
            for criterion, gradients in zip(self._of_output_gradient, self._output_gradients, strict=True):
                assert criterion.of_output_gradient
                gradients[index] = criterion.of_output_gradient(values, gradient)

        return on_forward

    def begin_micro_batch(self, attention_mask: Tensor) -> None:
        """Set which tokens of the next forward pass are not padding: shape (batch, tokens), 1 or 0."""
        self._mask = attention_mask

    def micro_batch_vector(self) -> Tensor:
        """Return the contribution of the last forward and backward pass, and reset it.

        The vectors of a batch's micro-batches may be summed in any grouping for :meth:`step`.
        """
        mask = self._mask.float()
        parts = [self._sum_tokens(outputs, self._scales, mask) for outputs in self._outputs]
        # d(loss)/d(update) * update does not depend on how the output is scaled
        ones = torch.ones_like(self._scales)
        parts += [self._sum_tokens(gradients, ones, mask) for gradients in self._output_gradients]
        self._outputs = [{} for _ in self._of_output]
        self._output_gradients = [{} for _ in self._of_output_gradient]
        return torch.cat([*parts, mask.sum().reshape(1)])

    def _sum_tokens(self, per_token: Mapping[int, Tensor], scales: Tensor, mask: Tensor) -> Tensor:
        sums = (torch.stack(list(per_token.values())).float() * mask).sum(dim=(1, 2))
        seen = self._indices(tuple(per_token))
        return torch.zeros(len(self._slots), device=sums.device).index_add_(
            0, self._slot_of_update[seen], sums * scales[seen]
        )

    def _indices(self, seen: tuple[int, ...]) -> Tensor:
        # hooks run in the order of execution, not of slots; cached, since copying from the host would stall a GPU
        if seen not in self._seen:
            self._seen[seen] = torch.tensor(seen, device=self._scales.device)
        return self._seen[seen]

    def step(self, gradients: Sequence[Tensor], vector: Tensor, loss_scale: float = 1.0) -> None:
        """Accumulate an optimiser step; call it before the weights change.

        Args:
            gradients: The batch's gradients of the slots' parameters, slot by slot, unscaled and not clipped.
            vector: The sum of the micro-batches' vectors.
            loss_scale: Factor on the loss in the backward pass.
        """
        half = self._steps % 2
        weights = [weight.detach() for weight in self._weights]
        for row, criterion in zip(self._step_sums[half], self._of_step, strict=True):
            assert criterion.of_step
            sums = torch.stack(list(criterion.of_step(weights, list(gradients))))
            row.index_add_(0, self._slot_of_weight, sums.double())
        sums = vector.double()
        backward_at = self._output_sums[half].numel()
        self._output_sums[half] += sums[:backward_at].view_as(self._output_sums[half])
        self._gate_sums[half] += sums[backward_at:-1].view_as(self._gate_sums[half]).abs() / loss_scale
        self._tokens[half] += sums[-1]
        self._steps += 1

    def state(self) -> dict[str, Any]:
        """Return everything accumulated so far, as tensors and a number."""
        return {"sums": self._sums(), "steps": self._steps}

    def _sums(self) -> dict[str, Tensor]:
        return {"step": self._step_sums, "output": self._output_sums, "gate": self._gate_sums, "tokens": self._tokens}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        for name, mine in self._sums().items():
            mine.copy_(state["sums"][name])
        self._steps = state["steps"]

    def thetas(self) -> dict[str, dict[Slot, float]]:
        """Compute Theta of every criterion and slot from the accumulated statistics and the current weights."""
        rows = self._pass_thetas(self._steps, *(sums.sum(dim=0) for sums in self._sums().values()))
        rows |= self._weight_thetas(slice(None))
        return {name: dict(zip(self._slots, rows[name].tolist(), strict=True)) for name in self._names}

    def halves(self) -> dict[str, dict[Slot, tuple[float, float]]]:
        """Compute Theta of the two halves; criteria and slots for which a half is empty are left out."""
        of_half = []
        for half in (0, 1):
            steps = (self._steps + 1 - half) // 2
            rows = self._pass_thetas(steps, *(sums[half] for sums in self._sums().values())) if self._steps > 1 else {}
            of_half.append(rows | self._weight_thetas(slice(half, None, 2)))
        even, odd = ({name: row.tolist() for name, row in rows.items()} for rows in of_half)
        return {
            name: {
                slot: pair
                for slot, pair in zip(self._slots, zip(even[name], odd[name], strict=True), strict=True)
                if all(map(math.isfinite, pair))
            }
            for name in self._names
            if name in even
        }

    def _pass_thetas(
        self, steps: int, step_sums: Tensor, output_sums: Tensor, gate_sums: Tensor, tokens: Tensor
    ) -> dict[str, Tensor]:
        """Theta of the statistics accumulated over a number of steps."""
        steps = max(1, steps)
        rows: dict[str, Tensor] = {}
        for criterion, sums in zip(self._of_step, step_sums, strict=True):
            rows[criterion.name] = sums / steps / self._sizes
        for criterion, sums in zip(self._of_output, output_sums, strict=True):
            rows[criterion.name] = sums / tokens.clamp(min=1) / self._widths
        for criterion, sums in zip(self._of_output_gradient, gate_sums, strict=True):
            rows[criterion.name] = sums / steps
        return rows

    @torch.no_grad()
    def _weight_thetas(self, part: slice) -> dict[str, Tensor]:
        """Theta of a part of every module's entries; the threshold is computed from all entries."""
        if not self._of_weights:
            return {}
        flat = {slot: torch.cat([p.detach().flatten() for p in self._parameters[slot]]) for slot in self._slots}
        thresholds = self._thresholds(flat)
        found = {}
        for criterion in self._of_weights:
            assert criterion.of_weights
            found[criterion.name] = torch.stack(
                [criterion.of_weights(flat[slot][part], thresholds[slot.kind]).double() for slot in self._slots]
            )
        return found

    def _thresholds(self, flat: Mapping[Slot, Tensor]) -> dict[str, Tensor]:
        kinds = {slot.kind for slot in flat}
        if self._threshold is not None:
            return {kind: torch.tensor(self._threshold) for kind in kinds}
        return {
            kind: _quantile(
                torch.cat([values.abs() for slot, values in flat.items() if slot.kind == kind]),
                self._quantile,
            )
            for kind in kinds
        }


def _quantile(values: Tensor, fraction: float) -> Tensor:
    # torch.quantile is limited to 16 million elements
    rank = min(values.numel(), max(1, round(fraction * values.numel()) + 1))
    return values.kthvalue(rank).values
