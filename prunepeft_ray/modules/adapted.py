"""A backbone with the modules of an architecture inserted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """A wrapper that has been inserted at a site.

    Args:
        slot: The slot that it belongs to.
        name: Name of the site.
        parent: The module that holds the wrapper.
        attribute: The parent's attribute that holds it.
        wrapper: The wrapper; its ``base_layer`` is the wrapped module.
        update: The submodule whose output is the update; None if there is none.
        scale: Factor on that output.
        reparametrisation: What is trained in place of the wrapper's parameters; None if they are trained directly.
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
        """The parameters of the network that generates the wrapper's own, if there is one."""
        if self.reparametrisation:
            for name, parameter in self.reparametrisation.network.named_parameters():
                yield f"network.{name}", parameter


class AdaptedBackbone:
    """A backbone with filled slots and a newly initialised head, until it is closed.

    Every module is initialised from its own seed, so its initial weights depend neither on the other slots nor on their
    order. Closing restores the backbone's own modules, so that its outputs are exactly what they were.

    Args:
        backbone: The frozen backbone; it carries one architecture at a time.
        architecture: The slots to fill.
        settings: How modules are initialised and scaled.
        num_outputs: Number of classes, or 1 for regression.
        seed: Seed of modules and head.

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
            raise RuntimeError("the backbone already carries an architecture; close it first")
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
        """All trained weights by name: the slots' modules, then the head.

        Names of PEFT modules do not depend on the backbone's family.
        """
        modules = {
            f"{site.slot}.{site.name}.{name}": parameter for site in self.sites for name, parameter in site.parameters()
        }
        return modules | {f"head.{name}": parameter for name, parameter in self.backbone.head_parameters.items()}

    @property
    def optimised(self) -> dict[str, nn.Parameter]:
        """The optimiser's parameters: :attr:`trainable`, with networks in place of the weights that they generate."""
        generated = {id(weight) for found in self._reparametrisations for weight in found.weights}
        own = {name: parameter for name, parameter in self.trainable.items() if id(parameter) not in generated}
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
        """Number of PEFT parameters, as torch counts them; modules with an allocator count what is not removed."""
        counted = sum(
            parameter.numel()
            for slot, found in self.slot_parameters.items()
            if self.architecture[slot].type not in self.allocators
            for parameter in found
        )
        return counted + sum(allocator.parameters for allocator in self.allocators.values())

    @property
    def within_size(self) -> bool:
        """Whether all modules are down to the architecture's sizes; some start larger and are reduced in training."""
        return all(allocator.within_size for allocator in self.allocators.values())

    @property
    def head_parameters(self) -> int:
        """Number of the task head's parameters."""
        return sum(p.numel() for p in self.backbone.head_parameters.values())

    def penalty(self) -> Tensor:
        """Return the allocators' penalty on the mean loss of a batch."""
        return torch.stack([allocator.penalty() for allocator in self.allocators.values()]).sum()

    def before_step(self, loss_scale: float = 1.0) -> None:
        """Propagate gradients to the networks that generate weights; call it before an optimiser step."""
        for found in self._reparametrisations:
            found.propagate_gradients(loss_scale)

    def after_step(self, step: int, total_steps: int) -> None:
        """Regenerate weights and run the allocators; call it after an optimiser step. See :class:`Allocator`."""
        for found in self._reparametrisations:
            found.regenerate()
        for allocator in self.allocators.values():
            allocator.after_step(step, total_steps)

    def allocator_state(self) -> dict[str, dict[str, Any]]:
        """Return the allocators' state by module type."""
        return {name: allocator.state() for name, allocator in self.allocators.items()}

    def load_allocators(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what :meth:`allocator_state` returned."""
        for name, allocator in self.allocators.items():
            allocator.load(state[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy of all trained weights on the CPU."""
        return _cpu_copies(self.trainable)

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load weights from :meth:`state`, and discard the networks that generate weights.

        Raises:
            InputError: If the names or shapes are not those of this architecture.
        """
        _copy_into(self.trainable, state)
        self.sites = [replace(site, reparametrisation=None) for site in self.sites]

    def training_state(self) -> dict[str, torch.Tensor]:
        """Return a copy on the CPU of all weights needed to resume training, generating networks included."""
        return _cpu_copies(self.trainable | self._network_parameters)

    def load_training(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what :meth:`training_state` returned.

        Raises:
            InputError: If the names or shapes are not those of this architecture.
        """
        _copy_into(self.trainable | self._network_parameters, state)

    def close(self) -> None:
        """Restore the backbone's own modules."""
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


def _cpu_copies(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}


@torch.no_grad()
def _copy_into(parameters: Mapping[str, nn.Parameter], state: Mapping[str, torch.Tensor]) -> None:
    if odd := set(parameters).symmetric_difference(state):
        raise InputError(f"the weights do not belong to this architecture: '{min(odd)}' is missing or unexpected")
    for name, parameter in parameters.items():
        if parameter.shape != state[name].shape:
            raise InputError(f"the weights do not belong to this architecture: '{name}' has a different shape")
        parameter.copy_(state[name])


def check_fits(architecture: Architecture, layers: int) -> None:
    """Check that every slot exists in the backbone and every module type fits its slot kind.

    Args:
        architecture: The architecture to insert.
        layers: Number of layers of the backbone.

    Raises:
        InputError: If a slot or a module does not fit; the message names the slot.
    """
    for slot, module in architecture:
        if slot.layer >= layers:
            raise InputError(f"slot {slot} does not exist: the backbone has {layers} layers")
        if (kind := MODULE_TYPES[module.type].kind) != slot.kind:
            raise InputError(f"slot {slot} cannot hold a '{module.type}' module, which fills {kind} slots")
    whole = {slot.layer for slot in architecture.slots if slot.kind == "FT"}
    for slot in architecture.slots:
        if slot.layer in whole and slot.kind != "FT":
            raise InputError(f"slot {slot} cannot be filled beside FT.{slot.layer}, which covers the whole layer")


def _insert(
    backbone: Backbone, architecture: Architecture, slot: Slot, settings: ModulesConfig, seed: int
) -> Iterator[InsertedSite]:
    module = architecture[slot]
    module_type = MODULE_TYPES[module.type]
    for name in [name for site in module_type.sites for name in backbone.parts(slot.layer, site)]:
        parent, attribute = backbone.site(slot.layer, name)
        base = getattr(parent, attribute)
        with torch.random.fork_rng(devices=[]), _in_fp32(base):
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


@contextmanager
def _in_fp32(base: nn.Module) -> Iterator[None]:
    """Have a base module's weights in fp32 while a wrapper is built, since wrappers create theirs in the same type."""
    stored = [(parameter, parameter.data) for parameter in base.parameters() if parameter.dtype != torch.float32]
    for parameter, data in stored:
        parameter.data = data.float()
    try:
        yield
    finally:
        for parameter, data in stored:
            parameter.data = data


def _allocators(sites: Sequence[InsertedSite], architecture: Architecture) -> dict[str, Allocator]:
    """Build the allocators of all module types that have one, by type."""
    wrappers: dict[str, dict[str, tuple[nn.Module, int]]] = {}
    for site in sites:
        module = architecture[site.slot]
        wrappers.setdefault(module.type, {})[f"{site.slot}.{site.name}"] = site.wrapper, module.size
    found = {name: MODULE_TYPES[name].allocator for name in wrappers}
    return {name: build(wrappers[name]) for name, build in found.items() if build}
