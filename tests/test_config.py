from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prunepeft_ray.architecture import KIND_TITLES, KINDS
from prunepeft_ray.config import (
    PAPER_CRITERIA,
    Config,
    LearningRates,
    ModulesConfig,
    PruningConfig,
    SearchSpec,
    SpaceConfig,
    TaskConfig,
    TrainingConfig,
    WarmupConfig,
    all_keys,
    beside,
    dump_yaml,
    load_spec,
    read_yaml,
    validate,
)
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import MODULE_TYPES
from prunepeft_ray.storage.paths import open_path

BASE = {"model": "packaged:minilm", "task": {"name": "packaged:movie"}, "budget": "1%"}


def spec(*settings, **values):
    return load_spec(None, BASE | values, settings)


def refusal(*settings, file=None, **values):
    with pytest.raises(InputError) as caught:
        load_spec(file, BASE | values, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def write(tmp_path):
    def make(content):
        file = tmp_path / "search.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return make


# defaults


def test_defaults_that_the_paper_states():
    found = spec()
    # Tables 2 and 3
    assert (found.space.rank, found.space.bottleneck) == (32, 128)
    assert found.space.kinds == ("PA", "SA")
    assert (found.space.parallel, found.space.serial) == ("lora", "pfeiffer")
    # 20 epochs, batches of 16, dropout 0.1, alpha = rank
    assert (found.training.epochs, found.training.batch_size) == (20, 16)
    assert found.modules.lora_dropout == 0.1
    assert found.modules.lora_alpha is None
    # warm-up: 100 examples, 3 turns of 3 epochs, 3 slots each; 3 rounds of 1 epoch
    warmup = found.warmup
    assert (warmup.select, warmup.train_size) == ("frequency", 100)
    assert (warmup.turns, warmup.epochs, warmup.remove) == (3, 3, 3)
    assert (found.pruning.rounds, found.pruning.round_epochs) == (3, 1)
    # Table 1
    expected = ("weight", "zeros", "threshold", "activation", "sensitivity", "gradient")
    assert found.pruning.criteria == PAPER_CRITERIA == expected


def test_defaults_that_are_decisions():
    found = spec()
    assert found.seed == found.task.seed == 0
    assert (found.pruning.blocks, found.pruning.profile) == ("spindle", "averaged")
    assert (found.pruning.threshold, found.pruning.threshold_quantile) == (None, 0.1)
    assert found.pruning.remove is None
    assert found.pruning.dynamic is False
    assert found.training.micro_batches is None


def test_every_setting_without_a_default_is_asked_for():
    for key in ("model", "task", "budget"):
        with pytest.raises(InputError, match=f"search: '{key}' is missing"):
            load_spec(None, {k: v for k, v in BASE.items() if k != key})


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        spec().seed = 1


# sources and their precedence


def test_settings_win_over_values_and_values_over_the_file(write):
    file = write("seed: 1\ntraining: {epochs: 2, batch_size: 4, max_length: 32}\nwarmup: {turns: 2}\n")
    values = BASE | {"seed": 5, "training": {"epochs": 6, "batch_size": 7}}
    found = load_spec(file, values, ["training.epochs=9", "seed=10", "seed=11"])
    assert found.seed == 11
    assert (found.training.epochs, found.training.batch_size, found.training.max_length) == (9, 7, 32)
    assert found.warmup.turns == 2


def test_values_that_are_none_leave_the_file_alone(write):
    file = write("model: m\ntask: {name: t, train_size: 5}\nbudget: 2%\nseed: 3\n")
    found = load_spec(file, {"model": None, "seed": None, "task": {"name": None, "text": None}})
    assert (found.model, found.seed, found.task.train_size) == ("m", 3, 5)


def test_null_as_a_setting_takes_a_default_away():
    assert spec().training.patience == 5
    assert spec("training.patience=null").training.patience is None


def test_an_empty_file_sets_nothing(write):
    assert load_spec(write("# nothing\n"), BASE) == spec()


def test_short_forms(write):
    file = write("model: m\ntask: sst2\nbudget: 300000\n")
    found = load_spec(file)
    assert found.task == TaskConfig(name="sst2")
    assert found.budget == "300000"
    assert load_spec(file, None, ["task.train_size=5"]).task == TaskConfig(name="sst2", train_size=5)
    assert load_spec(file, {"task": {"dev": "d.csv"}}).task == TaskConfig(name="sst2", dev="d.csv")
    assert load_spec(file, {"task": "rte"}, ["task.train_size=5"]).task == TaskConfig(name="rte", train_size=5)
    assert load_spec(file, None, ["task.train_size=5", "task=rte"]).task == TaskConfig(name="rte", train_size=5)
    assert load_spec(file, None, ["budget=1.5"]).budget == "1.5"


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("training.learning_rates.PA=1e-3", lambda s: s.training.learning_rates.PA, 1e-3),
        ("training.learning_rates.head=2E-5", lambda s: s.training.learning_rates.head, 2e-5),
        ("pruning.threshold=1e-6", lambda s: s.pruning.threshold, 1e-6),
        ("task.train_size=1e3", lambda s: s.task.train_size, 1000),
        ("training.epochs=7", lambda s: s.training.epochs, 7),
        (" training.epochs = 7 ", lambda s: s.training.epochs, 7),
        ("pruning.dynamic=true", lambda s: s.pruning.dynamic, True),
        ("space.kinds=[SA]", lambda s: s.space.kinds, ("SA",)),
        ("space.rank=[1, 2, 4]", lambda s: s.space.rank, (1, 2, 4)),
        ("pruning.blocks=[0.25, 0.5]", lambda s: s.pruning.blocks, (0.25, 0.5)),
        ("pruning.blocks=none", lambda s: s.pruning.blocks, "none"),
        ("pruning.criteria=[gate]", lambda s: s.pruning.criteria, ("gate",)),
        ("task.name=a=b.csv", lambda s: s.task.name, "a=b.csv"),
        ("budget=1%", lambda s: s.budget, "1%"),
        ("budget=1.5M", lambda s: s.budget, "1.5M"),
        ("model=packaged:minilm", lambda s: s.model, "packaged:minilm"),
    ],
)
def test_settings_are_read_as_yaml_and_numbers(setting, read, expected):
    found = read(spec(setting))
    assert found == expected
    assert type(found) is type(expected)


def test_every_key_can_be_set():
    keys = all_keys(SearchSpec)
    assert len(keys) == len(set(keys))
    for key in ("model", "task.train_size", "space.kinds", "warmup.select", "training.learning_rates.PA"):
        assert key in keys
    plain = spec().model_dump(mode="json")
    for key in keys:
        value = plain
        for part in key.split("."):
            value = value[part]
        assert spec(f"{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10))}") == spec()


# what is wrong is said in one line that names the key


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("training.epoch=3", "training.epochs"),
        ("training.learning_rate.PA=1", "training.learning_rates."),
        ("sed=3", "seed"),
        ("prunning.rounds=3", "pruning.rounds"),
        ("task.trainsize=3", "task.train_size"),
    ],
)
def test_an_unknown_key_gets_the_nearest_as_a_suggestion(setting, near):
    message = refusal(setting)
    assert "unknown key" in message
    assert near in message


def test_an_unknown_key_like_no_other_gets_all_known():
    message = refusal("zzz=1")
    assert message.startswith("search: unknown key 'zzz'; known: model, task.name,")


@pytest.mark.parametrize(
    "setting",
    [
        "training.epochs=many",
        "training.epochs=0",
        "training.epochs=1.5",
        "training.batch_size=-1",
        "training.learning_rates.PA=0",
        "training.learning_rates.SA=.inf",
        "training.learning_rates.head=.nan",
        "training.weight_decay=-1",
        "training.weight_decay=.inf",
        "training.max_grad_norm=0",
        "training.schedule=step",
        "training.precision=fp8",
        "training.warmup_share=1",
        "training.patience=0",
        "modules.init=zeros",
        "modules.lora_alpha=0",
        "modules.lora_dropout=1",
        "space.kinds=PA",
        "space.kinds=[]",
        "space.rank=0",
        "space.rank=[8, 0]",
        "space.bottleneck=wide",
        "warmup.holdout=1",
        "warmup.holdout=0",
        "pruning.blocks=two",
        "pruning.blocks=[0.5, x]",
        "pruning.criteria=[]",
        "pruning.rounds=0",
        "pruning.threshold=0",
        "pruning.threshold_quantile=1",
        "task.name=5",
        "task.regression=perhaps",
        "task.train_size=0",
        "seed=1.5",
        "seed=x",
        "seed.deeper=1",
        "training=3",
        "budget=true",
        "budget=[1]",
        "model=",
    ],
)
def test_a_wrong_value_is_refused_by_key(setting):
    key = setting.split("=")[0]
    message = refusal(setting)
    assert message.startswith(f"search: {key.removesuffix('.deeper')}")
    assert ", got " in message


def test_every_kind_of_slot_has_its_settings():
    assert set(spec(f"space.kinds=[{', '.join(KINDS)}]").space.kinds) == set(KINDS)
    assert set(LearningRates.model_fields) == {*KIND_TITLES, "head"}
    for kind in KINDS:
        module_type, size = SpaceConfig().module(kind)
        assert MODULE_TYPES[module_type].kind == kind
        assert getattr(SpaceConfig(), size) >= 1


def test_the_whole_layer_is_no_slot_of_a_supernet():
    assert set(KIND_TITLES) - set(KINDS) == {"FT"}
    assert "space.kinds" in refusal("space.kinds=[FT]")


def test_a_kind_given_twice_is_refused():
    assert "kinds must not repeat" in refusal("space.kinds=[PA, PA]")


@pytest.mark.parametrize("setting", ["training.epochs", "=3", " =3", ""])
def test_a_setting_without_key_or_value_is_refused(setting):
    assert refusal(setting).startswith("--set ")


@pytest.mark.parametrize(
    "value", ["[", "!!bool x", "!!timestamp x", "2024-13-45", "!!python/name:os.system", "[" * 9999]
)
def test_a_setting_that_is_no_yaml_is_refused(value):
    assert "not valid YAML" in refusal(f"model={value}")


def test_a_message_names_the_file(write):
    file = write("training: {epochs: 0}\n")
    assert refusal(file=file).startswith(f"{file}: training.epochs: ")


@pytest.mark.parametrize("text", ["- a\n- b\n", "5\n", "just words\n", "2024-01-01\n"])
def test_a_file_that_is_no_mapping_is_refused(write, text):
    file = write(text)
    assert refusal(file=file).startswith(f"{file}: expected a mapping of keys to values, got a ")


@pytest.mark.parametrize(
    "content",
    [
        b"model: [\n",
        b"a: b: c\n",
        b"\xff\xfe\x00\x80",
        b"\x00\x01\x02\x03",
        b"PK\x03\x04\x14\x00\x00\x00",
        b"seed: 2024-13-45\n",
        b"seed: !!bool x\n",
        b"[1]: 2\n",
        b"[" * 9999,
    ],
)
def test_a_file_that_is_no_yaml_is_refused(write, content):
    file = write(content)
    assert refusal(file=file).startswith(f"{file}: not valid YAML: ")


@pytest.mark.parametrize("content", ["1: 2\n", "null: 3\n", "'a\\nb': 1\n", '"a\\nb": 1\n', "seed: 'a\n\n  b'\n"])
def test_odd_keys_and_values_get_one_line(write, content):
    refusal(file=write(content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert refusal(file=tmp_path / "none.yaml").endswith("cannot be read: No such file or directory")
    assert "cannot be read" in refusal(file=tmp_path)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch {}']", "!!python/name:os.system", "!mine {{}}"]
)
def test_yaml_never_runs_code(write, tmp_path, tag):
    file = write(f"model: {tag.format(tmp_path / 'ran')}\n")
    assert "not valid YAML" in refusal(file=file)
    assert not (tmp_path / "ran").exists()


@given(st.text(), st.text())
def test_no_setting_raises_anything_but_a_one_line_message(key, value):
    try:
        spec(f"{key}={value}")
    except InputError as error:
        assert "\n" not in str(error)


# writing and reading back

shares = st.floats(0, 1, exclude_min=True, exclude_max=True)
positive = st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False)
counts = st.integers(1, 10**9)
words = st.text()


def maybe(strategy):
    return st.none() | strategy


SPECS = st.builds(
    SearchSpec,
    model=words,
    budget=words,
    seed=st.integers(),
    task=st.builds(TaskConfig, name=words, text=maybe(words), label=maybe(words), train_size=maybe(counts)),
    space=st.builds(
        SpaceConfig,
        kinds=st.permutations(list(KINDS)).map(tuple) | st.just(("SA",)),
        parallel=st.sampled_from(["lora", "dora"]),
        serial=st.sampled_from(["pfeiffer", "houlsby"]),
        rank=counts | st.lists(counts).map(tuple),
    ),
    modules=st.builds(ModulesConfig, init=st.sampled_from(["paper", "default"]), lora_alpha=maybe(positive)),
    training=st.builds(
        TrainingConfig,
        epochs=counts,
        patience=maybe(counts),
        learning_rates=st.builds(LearningRates, **dict.fromkeys((*KIND_TITLES, "head"), positive)),
        warmup_share=shares,
        max_grad_norm=maybe(positive),
    ),
    warmup=st.builds(WarmupConfig, holdout=shares),
    pruning=st.builds(
        PruningConfig,
        criteria=st.lists(words, min_size=1).map(tuple),
        blocks=st.sampled_from(["spindle", "reference", "none"]) | st.lists(shares).map(tuple),
        threshold=maybe(positive),
        dynamic=st.booleans(),
    ),
)


@given(SPECS)
def test_what_is_written_is_read_back_the_same(tmp_path_factory, found):
    file = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    file.write_text(dump_yaml(found), encoding="utf-8")
    assert load_spec(file) == found


def test_what_is_written_is_complete_and_plain(write):
    text = dump_yaml(spec())
    assert yaml.safe_load(text) == spec().model_dump(mode="json")
    assert list(yaml.safe_load(text)) == list(SearchSpec.model_fields)
    assert read_yaml(write(text)) == yaml.safe_load(text)


def test_other_models_are_validated_alike():
    class Study(Config):
        name: str
        repeats: int = 1

    assert validate(Study, {"name": "a"}, "study.yaml") == Study(name="a")
    with pytest.raises(InputError, match=r"^study\.yaml: unknown key 'repeat'; did you mean 'repeats'\?$"):
        validate(Study, {"name": "a", "repeat": 2}, "study.yaml")


def test_every_key_that_needs_one_has_a_description():
    # they are what `--help` and the documentation print
    for model in (TaskConfig, SpaceConfig, ModulesConfig, WarmupConfig):
        assert all(field.description for field in model.model_fields.values()), Path(model.__name__)


def test_plugins_that_are_files_are_looked_for_beside_the_file_that_names_them(tmp_path):
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(BASE | {"plugins": ["./mine.py", "pack/age", "installed"]}))
    found = load_spec(tmp_path / "search.yaml").plugins
    assert found == (str(tmp_path / "mine.py"), str(tmp_path / "pack/age"), "installed")
    assert load_spec(None, BASE, ["plugins=[mine.py]"]).plugins == (str(Path.cwd() / "mine.py"),)


def test_plugins_of_a_spec_in_a_bucket_stay_where_they_are():
    assert beside(open_path("memory://bucket/run/spec.yaml"), ("/mine.py", "mine")) == ("/mine.py", "mine")
