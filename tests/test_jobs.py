import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.config import LearningRates, ModulesConfig, TrainingConfig
from prunepeft_ray.jobs import TrainJob

JOB = TrainJob(
    model="packaged:minilm",
    model_fingerprint="0123456789abcdef",
    task="packaged:movie",
    task_fingerprint="fedcba9876543210",
    metric="accuracy",
    architecture=Architecture.of({Slot(0, "PA"): Module("lora", 8), Slot(3, "SA"): Module("pfeiffer", 16)}),
    modules=ModulesConfig(init="default", lora_alpha=8, lora_dropout=0.1),
    # every value is given, so that a changed default does not change the id
    training=TrainingConfig(
        epochs=3,
        patience=2,
        batch_size=16,
        micro_batches=2,
        learning_rates=LearningRates(PA=1e-3, SA=1e-3, head=1e-3),
        schedule="linear",
        warmup_share=0.06,
        weight_decay=0.01,
        max_grad_norm=1.0,
        max_length=128,
        eval_batch_size=64,
        precision="fp32",
    ),
    seed=7,
    collect=("weight", "gate"),
)

CHANGES = {
    "model_fingerprint": "0123456789abcdee",
    "task_fingerprint": "fedcba9876543211",
    "metric": "f1",
    "architecture": Architecture.of({Slot(0, "PA"): Module("lora", 8)}),
    "modules": ModulesConfig(init="paper", lora_alpha=8, lora_dropout=0.1),
    "training": JOB.training.model_copy(update={"epochs": 4}),
    "seed": 8,
    "train_size": 100,
    "holdout": 0.3,
    "evaluate": "none",
    "test": True,
    "collect": ("weight",),
    "threshold": 1e-6,
    "threshold_quantile": 0.2,
}
NAMES = {"model": "/home/me/minilm", "task": "movies.csv"}


def test_the_id_is_pinned():
    # finished jobs of earlier runs are found by this id
    assert JOB.id == "03d6cb2a068c991e"


def test_settings_of_kinds_that_came_later_count_where_such_slots_are_filled():
    rates = JOB.training.learning_rates
    types = {"FT": "full", "PF": "parallel", "PT": "prefix"}
    others = {
        kind: replace(
            JOB, training=JOB.training.model_copy(update={"learning_rates": rates.model_copy(update={kind: 0.1})})
        )
        for kind in types
    }
    others["PF scale"] = replace(JOB, modules=JOB.modules.model_copy(update={"parallel_scale": 1.0}))
    for name, other in others.items():
        assert other.id == JOB.id
        filled = Architecture.of({Slot(1, name[:2]): Module(types[name[:2]], 4)})
        assert replace(other, architecture=filled).id != replace(JOB, architecture=filled).id


def test_dropout_in_frozen_layers_counts_where_there_are_some_and_it_is_off():
    upper = replace(JOB, architecture=Architecture.of({Slot(1, "PA"): Module("lora", 8)}))
    head = replace(JOB, architecture=Architecture())
    for job, differs in ((JOB, False), (upper, True), (head, True)):
        off = replace(job, training=job.training.model_copy(update={"frozen_dropout": False}))
        assert (off.id != job.id) == differs


def test_every_field_is_tested():
    assert {field.name for field in fields(TrainJob)} == CHANGES.keys() | NAMES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_the_id_changes_with_the_content(name):
    changed = replace(JOB, **{name: CHANGES[name]})
    assert getattr(changed, name) != getattr(JOB, name)
    assert changed.id != JOB.id


@pytest.mark.parametrize("name", NAMES)
def test_the_id_does_not_change_with_the_names_of_model_and_task(name):
    assert replace(JOB, **{name: NAMES[name]}).id == JOB.id


@pytest.mark.parametrize(
    "name", [name for name in TrainingConfig.model_fields if name not in ("epochs", "frozen_dropout")]
)
def test_the_id_changes_with_every_setting_of_the_recipe(name):
    other = {
        "learning_rates": LearningRates(head=2e-3),
        "schedule": "cosine",
        "precision": "bf16",
        "patience": None,
        "micro_batches": None,
        "max_grad_norm": None,
        "warmup_share": 0.5,
        "weight_decay": 0.5,
    }.get(name, 5)
    training = JOB.training.model_copy(update={name: other})
    assert replace(JOB, training=training).id != JOB.id


def test_equal_jobs_have_equal_ids_and_compare_equal():
    again = replace(JOB, architecture=Architecture.of(dict(reversed(list(JOB.architecture)))))
    assert again == JOB
    assert again.id == JOB.id
    assert hash(again.id) == hash(JOB.id)


def test_an_id_is_16_hexadecimal_digits():
    assert len(JOB.id) == 16
    int(JOB.id, 16)


def test_a_job_is_plain_data_for_json():
    data = JOB.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data.keys() == {field.name for field in fields(TrainJob)}
    assert Architecture.from_dict(data["architecture"]) == JOB.architecture
    assert ModulesConfig.model_validate(data["modules"]) == JOB.modules
    assert TrainingConfig.model_validate(data["training"]) == JOB.training


def test_a_job_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        JOB.seed = 1
