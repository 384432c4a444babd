"""Scores collected on real, if tiny, transformers."""

import copy

import pytest
import torch
from tiny import TEXTS, filled
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from prunepeft_ray.architecture import Slot
from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.criteria.collector import Collector, Update
from prunepeft_ray.modules import AdaptedBackbone

FAMILY_NAMES = ("bert", "roberta", "llama")
IDENTITIES = [("lora", "pfeiffer"), ("dora", "houlsby"), ("lora", "pfeiffer", "parallel")]
COMBINATIONS = [*IDENTITIES, ("lora", "houlsby", "parallel", "prefix")]
SETTINGS = ModulesConfig(init="paper", lora_alpha=2)
LABELS = torch.tensor([0, 1, 1, 0, 1, 0])


@pytest.fixture(params=FAMILY_NAMES)
def backbone(request, tiny_models):
    return load_backbone(tiny_models[request.param])


def double_norm(self, hidden):
    """Llama's norm, which elsewhere computes in single precision whatever the model's."""
    return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)


@pytest.fixture
def exact(backbone, monkeypatch):
    """A copy of a backbone in double precision, which no other test shares."""
    monkeypatch.setattr(LlamaRMSNorm, "forward", double_norm)
    return Backbone(
        copy.deepcopy(backbone.model).double(), backbone.tokenizer, backbone.family, "", backbone.new_parameters
    )


def make_collector(adapted, names=tuple(CRITERIA)):
    backbone = adapted.backbone
    updates = [
        Update(site.slot, site.update, site.scale, backbone.width(site.slot.layer, site.name)[1])
        for site in adapted.sites
    ]
    return Collector(names, adapted.slot_parameters, updates, backbone.device)


def batch(backbone):
    backbone.tokenizer.padding_side = "right"
    return dict(backbone.tokenizer([*TEXTS, "great film", "a bad one", "yes"], padding=True, return_tensors="pt"))


def loss_of(backbone, inputs, labels):
    return F.cross_entropy(backbone.model(**inputs).logits, labels, reduction="sum") / len(LABELS)


def collect(adapted, collector, groups):
    """One step over the batch, split into groups of examples, each padded to its own longest."""
    inputs = batch(adapted.backbone)
    gradients, vectors = None, []
    parameters = [p for found in adapted.slot_parameters.values() for p in found]
    for group in groups:
        longest = int(inputs["attention_mask"][group].sum(dim=1).max())
        part = {name: value[group, :longest] for name, value in inputs.items()}
        collector.begin_micro_batch(part["attention_mask"])
        with collector.watching():
            found = torch.autograd.grad(loss_of(adapted.backbone, part, LABELS[group]), parameters)
        vectors.append(collector.micro_batch_vector())
        gradients = found if gradients is None else [a + b for a, b in zip(gradients, found, strict=True)]
    collector.step(gradients, sum(vectors))


WHOLE = [[0, 1, 2, 3, 4, 5]]


def to_double(adapted):
    """Modules are made in single precision."""
    adapted.backbone.model.double()


@pytest.mark.parametrize("modules", COMBINATIONS)
def test_scores_do_not_depend_on_how_a_batch_is_split(backbone, modules):
    thetas = []
    for groups in (WHOLE, [[0], [1], [2], [3], [4], [5]], [[5, 1, 3], [2, 0, 4]]):
        with AdaptedBackbone(backbone, filled(backbone.layers, *modules), SETTINGS, 2, seed=0) as adapted:
            collector = make_collector(adapted)
            for _ in range(2):
                collect(adapted, collector, groups)
            thetas.append(collector.thetas())
    for name in CRITERIA:
        for other in thetas[1:]:
            largest = max(thetas[0][name].values())
            assert other[name] == pytest.approx(thetas[0][name], rel=1e-5, abs=1e-5 * largest), name
        assert min(thetas[0][name].values()) >= 0
        if name not in ("zeros", "threshold"):
            assert len(set(thetas[0][name].values())) == len(thetas[0][name]), name


@pytest.mark.parametrize("modules", COMBINATIONS)
def test_gate_is_the_derivative_of_the_loss_by_a_gate_on_the_modules_output(exact, modules):
    with AdaptedBackbone(exact, filled(exact.layers, *modules), SETTINGS, 2, seed=0) as adapted:
        to_double(adapted)
        collector = make_collector(adapted, ["gate"])
        collect(adapted, collector, WHOLE)
        thetas = collector.thetas()["gate"]
        inputs = batch(exact)

        def gated_loss(slot, gate):
            handles = [
                site.update.register_forward_hook(lambda _module, _inputs, output: output * gate)
                for site in adapted.sites
                if site.slot == slot
            ]
            with torch.no_grad():
                loss = float(loss_of(exact, inputs, LABELS))
            for handle in handles:
                handle.remove()
            return loss

        # so small that no ReLU changes sides
        step = 1e-7
        kinds = sorted({slot.kind for slot in adapted.architecture.slots})
        for slot in [Slot(layer, kind) for layer in (0, exact.layers - 1) for kind in kinds]:
            derivative = (gated_loss(slot, 1 + step) - gated_loss(slot, 1 - step)) / (2 * step)
            # padding tokens get no gradient where the attention mask hides them, so leaving them out changes nothing
            assert thetas[slot] == pytest.approx(abs(derivative), rel=1e-4, abs=1e-7), slot


@pytest.mark.parametrize("modules", IDENTITIES)
def test_gate_predicts_what_removing_one_module_with_a_small_update_does_to_the_loss(exact, modules):
    architecture = filled(exact.layers, *modules)
    inputs = batch(exact)
    with AdaptedBackbone(exact, architecture, SETTINGS, 2, seed=0) as adapted:
        to_double(adapted)
        with torch.no_grad():
            for name, parameter in adapted.trainable.items():
                if "lora_B" in name or "up." in name:
                    parameter.mul_(1e-3)
                if "magnitude" in name:
                    # the norm of what is now nearly the base weight, a little off
                    slot, site = name.split(".")[1:3]
                    base = getattr(*exact.site(int(slot), site)).base_layer.weight
                    parameter.copy_(base.norm(dim=1) * 1.0005)
        collector = make_collector(adapted, ["gate"])
        collect(adapted, collector, WHOLE)
        thetas = collector.thetas()["gate"]
        state = adapted.state()
        with torch.no_grad():
            whole = float(loss_of(exact, inputs, LABELS))
    changes = {}
    for slot in architecture.slots:
        with AdaptedBackbone(exact, architecture.without([slot]), SETTINGS, 2, seed=0) as adapted:
            to_double(adapted)
            adapted.load({name: value for name, value in state.items() if not name.startswith(f"{slot}.")})
            with torch.no_grad():
                changes[slot] = abs(float(loss_of(exact, inputs, LABELS)) - whole)
    largest = max(changes.values())
    assert largest > 1e-6
    for slot, change in changes.items():
        assert thetas[slot] == pytest.approx(change, rel=0.05, abs=0.01 * largest), slot


def test_gradient_and_sensitivity_are_those_of_the_whole_batch(backbone):
    with AdaptedBackbone(backbone, filled(backbone.layers, "lora", "pfeiffer"), SETTINGS, 2, seed=0) as adapted:
        collector = make_collector(adapted, ["gradient", "sensitivity"])
        collect(adapted, collector, WHOLE)
        thetas = collector.thetas()
        loss_of(backbone, batch(backbone), LABELS).backward()
        for slot, parameters in adapted.slot_parameters.items():
            count = sum(p.numel() for p in parameters)
            gradient = sum(p.grad.abs().sum() for p in parameters) / count
            sensitivity = sum((p.detach() * p.grad).abs().sum() for p in parameters) / count
            assert thetas["gradient"][slot] == pytest.approx(float(gradient), rel=1e-5)
            assert thetas["sensitivity"][slot] == pytest.approx(float(sensitivity), rel=1e-5)


def test_activation_is_what_the_module_adds_to_its_site(backbone):
    inputs = batch(backbone)
    real = inputs["attention_mask"].bool()
    added = {}

    def keep(site):
        def hook(module, given, output):
            with torch.no_grad():
                added.setdefault(site.slot, []).append((output - module.base_layer(*given))[real].flatten())

        return hook

    with AdaptedBackbone(backbone, filled(backbone.layers, "dora", "houlsby"), SETTINGS, 2, seed=0) as adapted:
        collector = make_collector(adapted, ["activation"])
        collect(adapted, collector, WHOLE)
        handles = [site.wrapper.register_forward_hook(keep(site)) for site in adapted.sites]
        with torch.no_grad():
            backbone.model(**inputs)
        for handle in handles:
            handle.remove()
    expected = {slot: float(torch.cat(parts).abs().mean()) for slot, parts in added.items()}
    assert collector.thetas()["activation"] == pytest.approx(expected, rel=1e-3)


def test_an_identity_start_has_no_activation_and_no_gate(backbone):
    settings = ModulesConfig(init="default")
    with AdaptedBackbone(backbone, filled(backbone.layers, "lora", "pfeiffer"), settings, 2, seed=0) as adapted:
        collector = make_collector(adapted)
        collect(adapted, collector, WHOLE)
        thetas = collector.thetas()
    for name in ("activation", "gate"):
        assert set(thetas[name].values()) == {0.0}
    assert min(thetas["gradient"].values()) > 0


def test_one_pass_gives_each_criterion_what_it_gives_alone(backbone):
    architecture = filled(backbone.layers, "lora", "pfeiffer")
    with AdaptedBackbone(backbone, architecture, SETTINGS, 2, seed=0) as adapted:
        together = make_collector(adapted)
        collect(adapted, together, WHOLE)
        for name in CRITERIA:
            alone = make_collector(adapted, [name])
            collect(adapted, alone, WHOLE)
            assert alone.thetas() == {name: together.thetas()[name]}
