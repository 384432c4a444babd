"""The answer of a search: architecture, strategy, adapter and model card."""

from __future__ import annotations

from safetensors import SafetensorError

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.executor import GroupExecutor
from prunepeft_ray.execution.plan import Plan
from prunepeft_ray.execution.workbench import Workbench
from prunepeft_ray.modules import MODULE_TYPES, AdapterConfig, save_adapter
from prunepeft_ray.pruning import PrunePEFT
from prunepeft_ray.results import RunFolder
from prunepeft_ray.storage.paths import check_within
from prunepeft_ray.text import error_line


def _leave_answer(plan: Plan, method: PrunePEFT, folder: RunFolder, bench: Workbench, executor: GroupExecutor) -> None:
    spec, job, found = method.spec, method.final_job, method.best()
    assert job is not None
    if method.strategy is not None:
        folder.write_json("strategy.json", method.strategy.to_dict())
    config = AdapterConfig(
        model=spec.model,
        model_fingerprint=bench.backbone.fingerprint,
        task=spec.task.name,
        labels=bench.data.labels,
        metrics=(bench.data.metric, *(name for name in bench.data.metrics if name != bench.data.metric)),
        max_length=spec.training.max_length,
        architecture=found,
        modules=spec.modules,
    )
    result = executor.store.find(job.id)
    assert result is not None
    card = model_card(config, plan.space.parameters(found), bench.backbone.parameters, dict(result.test))
    check_within(folder.adapter, folder.path)
    try:
        save_adapter(folder.adapter, executor.weights(job), config, card)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{folder.adapter} cannot be written ({error_line(error)}); all finished jobs are safe; free some space, "
            f"then run 'prunepeft resume {folder.path}'"
        ) from error
    folder.write_json(
        "architecture.json",
        found.to_dict()
        | {
            "supernet": plan.space.supernet.to_dict(),
            "layers": plan.space.layers,
            "blocks": list(plan.blocks),
            "parameters": plan.space.parameters(found),
            "head_parameters": result.head_parameters,
            "backbone_parameters": bench.backbone.parameters,
            "budget": plan.budget,
            "jobs": list(executor.told),
        },
    )


def model_card(config: AdapterConfig, parameters: int, backbone_parameters: int, test: dict[str, float]) -> str:
    """Return the model card of an adapter, in Markdown: what it is, its scores, how to load it."""
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in test.items())
    slots = "\n".join(
        f"| {slot.layer} | {slot.kind} | {MODULE_TYPES[module.type].label} | {module.size} |"
        for slot, module in config.architecture
    )
    return f"""# PEFT adapter for {config.task}

Found by PrunePEFT-Ray: {len(config.architecture)} modules, {parameters:,} parameters
({100 * parameters / backbone_parameters:.2f} % of the backbone `{config.model}`).

| test metric | value |
|---|---|
{measured}

| layer | slot kind | module | size |
|---|---|---|---|
{slots}

```python
from prunepeft_ray import load_adapter

predictor = load_adapter("adapter")  # the folder of this file
print(predictor.predict(["some text"]))
```
"""
