"""A backbone with the modules of an architecture inserted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from prunepeft_ray.architecture import Architecture, Slot
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules.module_type import MODULE_TYPES, Allocator
from prunepeft_ray.modules.reparametrisation import Reparametrisation
from prunepeft_ray.seeds import derive_seed


@dataclass(frozen=True)
class InsertedSite:
    """One wrapper in place.

    Args:
        slot: The slot that it belongs to.
        name: The site's name.
        parent: The module that holds it.
        attribute: The parent's attribute.
        wrapper: The wrapper; what it wraps is its ``base_layer``.
        update: The submodule whose output is the update; None if there is none.
        scale: What to multiply that output by.
        reparametrisation: What trains in place of the wrapper's parameters; None if they train themselves.
    """

    slot: Slot
    name: str
    parent: nn.Module
    attribute: str
    wrapper: nn.Module
    update: nn.Module | None
    scale: float
    reparametrisation: Reparametrisation | None

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The wrapper's own parameters by name, without those of the module it wraps."""
        for name, parameter in self.wrapper.named_parameters():
            if not name.startswith("base_layer."):
                yield name, parameter

    def network_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of the network that makes the wrapper's own, if there is one."""
        if self.reparametrisation:
            for name, parameter in self.reparametrisation.network.named_parameters():
                yield f"network.{name}", parameter


class AdaptedBackbone:
    """A backbone whose slots are filled and whose head is fresh, until it is closed.

    Every module is initialised from its own seed: its start depends neither on the other slots nor on their order.
    Closing puts the backbone's own modules back, so its outputs are exactly what they were.

    Args:
        backbone: The frozen backbone; it carries one architecture at a time.
        architecture: The slots to fill.
        settings: How modules start and scale.
        num_outputs: Classes, or 1 for regression.
        seed: Seeds modules and head.

    Raises:
        InputError: If the architecture does not fit the backbone.
        RuntimeError: If the backbone already carries an architecture.
    """

    def __init__(
        self,
        backbone: Backbone,
        architecture: Architecture,
        settings: ModulesConfig,
        num_outputs: int,
        seed: int,
    ) -> None:
        if backbone.adapted:
            raise RuntimeError("the backbone already carries an architecture; close that first")
        check_fits(architecture, backbone.layers)
        self.backbone = backbone
        self.architecture = architecture
        self.settings = settings
        backbone.reset_head(num_outputs, seed)
        backbone.adapted = True
        self.sites = [
            site for slot, _ in architecture for site in _insert(backbone, architecture, slot, settings, seed)
        ]
        self.allocators = _allocators(self.sites, architecture)
        for parameter in self.trainable.values():
            parameter.requires_grad_(True)

    @property
    def slot_parameters(self) -> dict[Slot, list[nn.Parameter]]:
        """The parameters of each slot's module."""
        found: dict[Slot, list[nn.Parameter]] = {slot: [] for slot in self.architecture.slots}
        for site in self.sites:
            found[site.slot] += [parameter for _, parameter in site.parameters()]
        return found

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """All that is learnt by name, slots' modules, then the head.

        Names of PEFT modules do not depend on the backbone's family.
        """
        modules = {
            f"{site.slot}.{site.name}.{name}": parameter for site in self.sites for name, parameter in site.parameters()
        }
        return modules | {f"head.{name}": parameter for name, parameter in self.backbone.head_parameters.items()}

    @property
    def optimised(self) -> dict[str, nn.Parameter]:
        """What the optimiser changes: :attr:`trainable`, with networks in place of the weights that they make."""
        made = {id(weight) for found in self._reparametrisations for weight in found.weights}
        own = {name: parameter for name, parameter in self.trainable.items() if id(parameter) not in made}
        return own | self._network_parameters

    @property
    def _network_parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{site.slot}.{site.name}.{name}": parameter
            for site in self.sites
            for name, parameter in site.network_parameters()
        }

    @property
    def _reparametrisations(self) -> list[Reparametrisation]:
        return [site.reparametrisation for site in self.sites if site.reparametrisation]

    @property
    def parameters(self) -> int:
        """Number of PEFT parameters, as torch counts them; where they are shared out, those that are left."""
        counted = sum(
            parameter.numel()
            for slot, found in self.slot_parameters.items()
            if self.architecture[slot].type not in self.allocators
            for parameter in found
        )
        return counted + sum(allocator.parameters for allocator in self.allocators.values())

    @property
    def within_size(self) -> bool:
        """Whether no module is larger than the architecture says: as some are while parameters are shared out."""
        return all(allocator.within_size for allocator in self.allocators.values())

    @property
    def head_parameters(self) -> int:
        """Number of the task head's parameters."""
        return sum(p.numel() for p in self.backbone.head_parameters.values())

    def penalty(self) -> Tensor:
        """Return what the allocators add to the mean loss of a batch."""
        return torch.stack([allocator.penalty() for allocator in self.allocators.values()]).sum()

    def before_step(self, loss_scale: float = 1.0) -> None:
        """Carry gradients on to the networks that make weights, before an optimiser step."""
        for found in self._reparametrisations:
            found.carry_gradients(loss_scale)

    def after_step(self, step: int, total_steps: int) -> None:
        """Make weights anew, and let the allocators do their work after an optimiser step; see :class:`Allocator`."""
        for found in self._reparametrisations:
            found.make()
        for allocator in self.allocators.values():
            allocator.after_step(step, total_steps)

    def allocator_state(self) -> dict[str, dict[str, Any]]:
        """Return the allocators' state by module type."""
        return {name: allocator.state() for name, allocator in self.allocators.items()}

    def load_allocators(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on from what :meth:`allocator_state` gave."""
        for name, allocator in self.allocators.items():
            allocator.load(state[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy, on the CPU, of all that is learnt."""
        return _copied(self.trainable)

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put weights from :meth:`state` in place, for good: networks that made weights are dropped.

        Raises:
            InputError: If the names or shapes are not this architecture's.
        """
        _put(self.trainable, state)
        self.sites = [replace(site, reparametrisation=None) for site in self.sites]

    def training_state(self) -> dict[str, torch.Tensor]:
        """Return a copy, on the CPU, of all that training needs to continue: also of networks that make weights."""
        return _copied(self.trainable | self._network_parameters)

    def load_training(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what :meth:`training_state` gave.

        Raises:
            InputError: If the names or shapes are not this architecture's.
        """
        _put(self.trainable | self._network_parameters, state)

    def close(self) -> None:
        """Put the backbone's own modules back."""
        for parameter in self.trainable.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        for site in reversed(self.sites):
            setattr(site.parent, site.attribute, site.wrapper.base_layer)
        self.sites = []
        self.backbone.adapted = False

    def __enter__(self) -> AdaptedBackbone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _copied(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], state: Mapping[str, torch.Tensor]) -> None:
    if odd := set(parameters).symmetric_difference(state):
        raise InputError(f"the weights do not belong to this architecture: '{min(odd)}' does not match")
    for name, parameter in parameters.items():
        if parameter.shape != state[name].shape:
            raise InputError(f"the weights do not belong to this architecture: '{name}' has another shape")
        parameter.copy_(state[name])


def check_fits(architecture: Architecture, layers: int) -> None:
    """Make sure that every slot exists in the backbone and every module type fits its slot kind.

    Args:
        architecture: What is to be put into a backbone.
        layers: Layers of the backbone.

    Raises:
        InputError: If not; the message names the slot.
    """
    for slot, module in architecture:
        if slot.layer >= layers:
            raise InputError(f"slot {slot} does not exist: the backbone has {layers} layers")
        if (kind := MODULE_TYPES[module.type].kind) != slot.kind:
            raise InputError(f"slot {slot} cannot hold a '{module.type}', which fills {kind} slots")
    whole = {slot.layer for slot in architecture.slots if slot.kind == "FT"}
    for slot in architecture.slots:
        if slot.layer in whole and slot.kind != "FT":
            raise InputError(f"slot {slot} cannot be filled beside FT.{slot.layer}, which is the whole layer")


def _insert(
    backbone: Backbone, architecture: Architecture, slot: Slot, settings: ModulesConfig, seed: int
) -> Iterator[InsertedSite]:
    module = architecture[slot]
    module_type = MODULE_TYPES[module.type]
    for name in [name for site in module_type.sites for name in backbone.parts(slot.layer, site)]:
        parent, attribute = backbone.site(slot.layer, name)
        base = getattr(parent, attribute)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "module", slot, name))
            wrapper = module_type.wrap(base, backbone.width(slot.layer, name), module.size, settings)
            network = module_type.reparametrise(wrapper) if module_type.reparametrise else None
        wrapper.to(backbone.device)
        if network:
            network.network.to(backbone.device)
        wrapper.train(backbone.model.training)
        setattr(parent, attribute, wrapper)
        update, scale = module_type.update(wrapper) if module_type.update else (None, 1.0)
        yield InsertedSite(slot, name, parent, attribute, wrapper, update, scale, network)


def _allocators(sites: Sequence[InsertedSite], architecture: Architecture) -> dict[str, Allocator]:
    """Build the allocators by module type, of the types that have one."""
    wrappers: dict[str, dict[str, tuple[nn.Module, int]]] = {}
    for site in sites:
        module = architecture[site.slot]
        wrappers.setdefault(module.type, {})[f"{site.slot}.{site.name}"] = site.wrapper, module.size
    found = {name: MODULE_TYPES[name].allocator for name in wrappers}
    return {name: build(wrappers[name]) for name, build in found.items() if build}
