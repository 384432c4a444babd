"""The settings of a study: short forms, files, what makes it the same study, and what may be added to it."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepeft_ray.config import RecipeConfig, SearchSpec, all_keys, dump_yaml, load_spec
from prunepeft_ray.errors import InputError
from prunepeft_ray.study import JsonFile, StudySpec, load_study, read_files

BASE = {
    "methods": ["prunepeft", {"name": "random-search", "options": {"batch": 4}}],
    "tasks": ["packaged:movie", {"name": "packaged:trec", "train_size": 100}],
    "models": ["packaged:minilm"],
    "seeds": [0, 1],
    "budget": "1%",
}


def study(**changes):
    return StudySpec.model_validate(BASE | changes)


@pytest.fixture
def write(tmp_path):
    def make(content):
        file = tmp_path / "study.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return file

    return make


@pytest.fixture
def refusal(write):
    def refuse(content=None, **changes):
        with pytest.raises(InputError) as caught:
            load_study(write(BASE | changes if content is None else content))
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 300
        return message.replace(str(write(content or BASE).parent) + "/", "")

    return refuse


# forms


def test_short_forms_stand_for_long_ones():
    long = study(
        methods=[
            {"name": "prunepeft", "label": "prunepeft"},
            {"name": "random-search", "label": "random-search", "options": {"batch": 4}},
        ],
        tasks=[{"name": "packaged:movie"}, {"name": "packaged:trec", "train_size": 100}],
    )
    assert study() == long
    assert study(budget=300000) == study(budget="300000")


def test_defaults():
    found = StudySpec.model_validate({k: v for k, v in BASE.items() if k != "seeds"})
    assert found.seeds == (0, 1, 2)
    assert (found.limits.evaluations, found.limits.epochs, found.limits.seconds) == (20, None, None)
    assert (found.candidate.epochs, found.candidate.train_size) == (1, None)
    assert (found.execution.cpus, found.execution.gpus, found.execution.workers) == (1.0, None, 1)
    assert all(method.concurrency is None and method.evaluations is None for method in found.methods)


def test_a_label_tells_variants_of_a_method_apart():
    found = study(methods=["single:weight", {"name": "prunepeft"}, {"name": "prunepeft", "label": "low-fidelity"}])
    assert [method.label for method in found.methods] == ["single:weight", "prunepeft", "low-fidelity"]
    assert [cell.title for cell in found.cells()][2] == "low-fidelity, packaged:movie, seed 0"


def test_a_study_that_is_written_is_read_back_the_same(write):
    found = study(plugins=["/a/b.py", "some.module"], space={"rank": [4, 8]}, limits={"epochs": 3.5})
    assert load_study(write(dump_yaml(found))) == found


def test_plugins_that_are_files_are_beside_the_study(write):
    file = write(BASE | {"plugins": ["mine.py", "./package", "../other.py", "installed_module", "/abs/x.py"]})
    here = file.parent
    expected = (f"{here}/mine.py", f"{here}/package", f"{here.parent}/other.py", "installed_module", "/abs/x.py")
    assert load_study(file).plugins == expected


def test_plugins_of_a_search_without_a_file_are_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"model": "m", "task": "t", "budget": "1"}
    assert load_spec(None, values, ["plugins=[./mine.py, module]"]).plugins == (str(tmp_path / "mine.py"), "module")


# files that methods name


def naming(file):
    """A study with a method that names a file."""
    return BASE | {"methods": [{"name": "random-search", "label": "mine", "options": {"start": file, "batch": 4}}]}


def options(spec):
    return spec.methods[0].options


@pytest.fixture
def start(tmp_path):
    """A JSON file in a folder beside the study."""
    file = tmp_path / "found" / "start.json"
    file.parent.mkdir()
    file.write_text('{"slots": [1, 2.5e-7]}')
    return file


def test_an_option_that_names_a_json_file_stands_for_what_is_in_it(write, start, monkeypatch):
    monkeypatch.chdir("/")
    content = {"slots": [1, 2.5e-7]}
    for name in ("found/start.json", "./found/../found/start.json", str(start), f"file://{start}"):
        assert options(load_study(write(naming(name)))) == {"start": {"file": name, "content": content}, "batch": 4}


def test_what_ends_otherwise_or_is_no_text_is_left_as_it_is(write):
    for value in ("start", "found/start", "start.json.gz", 3, ["start.json"], {"file": "start.json", "content": None}):
        assert options(load_study(write(naming(value))))["start"] == value


# PyYAML does not write unprintable characters such that it reads them back
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    )
)
@settings(max_examples=30)
def test_a_study_that_was_written_needs_the_file_no_more(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("study")
    (folder / "start.json").write_text(json.dumps(content))
    found = read_files(StudySpec.model_validate(naming("start.json")), folder / "study.yaml")
    (folder / "start.json").write_text("changed")
    (folder / "other").mkdir()
    (folder / "other" / "spec.yaml").write_text(dump_yaml(found), encoding="utf-8")
    again = load_study(folder / "other" / "spec.yaml")
    assert again == found
    assert options(again)["start"]["content"] == content


def test_a_file_with_another_content_makes_another_study(write, start):
    before = load_study(write(naming("found/start.json")))
    start.write_text(json.dumps({"slots": list(range(1000))}))
    with pytest.raises(InputError) as caught:
        load_study(write(naming("found/start.json"))).check_extends(before, "runs/x")
    says = "(methods.mine.options.start.content.slots: [1, 2.5e-07] there, [0, 1, 2, "
    assert str(caught.value).startswith(f"runs/x contains a different study {says}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not valid JSON: "),
        (b"\xff\x00", "is not valid JSON: "),
        ("[" * 10**5, "is no"),
    ],
    ids=["missing", "half", "binary", "deep"],
)
def test_a_file_that_is_no_json_is_refused(write, refusal, start, content, says):
    if content is None:
        start.unlink()
    else:
        start.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(naming("found/start.json"))
    assert message.startswith(f"study.yaml: method 'mine': start: found/start.json {says}")


def test_what_is_made_of_a_file_is_refused_with_its_name():
    def refuse(content):
        raise InputError(f"{content} is wrong")

    file = JsonFile(file="found/start.json", content=7)
    assert file.parse(str) == "7"
    with pytest.raises(InputError, match=r"^found/start.json: 7 is wrong$"):
        file.parse(refuse)


# refusals


@pytest.mark.parametrize("key", ["methods", "tasks", "models", "seeds"])
def test_an_empty_list_is_refused(refusal, key):
    message = refusal(**{key: []})
    assert message.startswith(f"study.yaml: {key}: ")
    assert "at least 1 item" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ["prunepeft", "prunepeft"]}, "methods: 'prunepeft' occurs twice; give one of them a label"),
        ({"methods": ["a", {"name": "b", "label": "a"}]}, "methods: 'a' occurs twice; give one of them a label"),
        ({"tasks": ["sst2", {"name": "sst2", "train_size": 10}]}, "tasks: 'sst2' occurs twice"),
        ({"models": ["m", "n", "m"]}, "models: 'm' occurs twice"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 occurs twice"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_there_twice_is_refused(refusal, changes, says):
    assert refusal(**changes) == f"study.yaml: {says}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": ["prunepeft"]}, "unknown key 'method'; did you mean 'methods'?"),
        ({"limits": {"epoch": 3}}, "unknown key 'limits.epoch'; did you mean 'limits.epochs'?"),
        ({"execution": {"cpu": 1}}, "unknown key 'execution.cpu'; did you mean 'execution.cpus'?"),
        ({"seed": 1}, "unknown key 'seed'; did you mean 'seeds'?"),
        ({"methods": [{"name": "a", "option": {}}]}, "unknown key 'methods.0.option'; did you mean 'options'?"),
        (
            {"tasks": ["a", {"name": "b", "tran_size": 1}]},
            "unknown key 'tasks.1.tran_size'; did you mean 'train_size'?",
        ),
        ({"methods": [{"name": "a", "xyz": {}}]}, "unknown key 'methods.0.xyz'; known: name, label,"),
        ({"methods": [{"label": "a"}]}, "'methods.0.name' is missing"),
        ({"methods": "prunepeft"}, "methods: "),
        ({"methods": [3]}, "methods.0: "),
        ({"limits": {"evaluations": 0}}, "limits.evaluations: "),
        ({"limits": {"epochs": 0}}, "limits.epochs: "),
        ({"limits": {"seconds": -1}}, "limits.seconds: "),
        ({"execution": {"workers": 0}}, "execution.workers: "),
        ({"execution": {"gpus": -0.5}}, "execution.gpus: "),
        ({"methods": [{"name": "a", "concurrency": 0}]}, "methods.0.concurrency: "),
        ({"methods": [{"name": "a", "evaluations": 0}]}, "methods.0.evaluations: "),
        ({"space": {"kinds": ["PA", "PA"]}}, "space: kinds must not repeat"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_a_wrong_key_or_value_is_named(refusal, changes, says):
    assert refusal(**changes).startswith(f"study.yaml: {says}")


@pytest.mark.parametrize("key", ["methods", "tasks", "models", "budget"])
def test_what_has_no_default_is_asked_for(refusal, key):
    assert refusal({k: v for k, v in BASE.items() if k != key}) == f"study.yaml: '{key}' is missing"


def test_a_file_that_is_no_study_is_refused(write, refusal, tmp_path):
    with pytest.raises(InputError, match=r"nope.yaml: cannot be read"):
        load_study(tmp_path / "nope.yaml")
    assert "not valid YAML" in refusal("methods: [")
    assert "expected a mapping of keys to values" in refusal("- methods")
    # a search's settings
    assert refusal({"model": "m", "task": "t", "budget": "1"}).startswith("study.yaml: 'methods' is missing")


# cells


def test_every_seed_model_task_and_method_has_a_search_in_that_order():
    cells = [(c.seed, c.model, c.task.name, c.method.name) for c in study(models=["m", "n"]).cells()]
    expected = [
        (seed, model, task, method)
        for seed in (0, 1)
        for model in ("m", "n")
        for task in ("packaged:movie", "packaged:trec")
        for method in ("prunepeft", "random-search")
    ]
    assert cells == expected


def test_a_search_of_a_study_has_the_settings_that_a_search_alone_has():
    recipe = {
        "budget": "1%",
        "space": {"rank": 8, "parallel": "dora"},
        "modules": {"lora_alpha": 16},
        "training": {"epochs": 3, "batch_size": 8},
        "warmup": {"turns": 1},
        "pruning": {"rounds": 2},
        "plugins": ["module"],
    }
    assert set(recipe) == set(RecipeConfig.model_fields)
    spec = study(**recipe, execution={"max_failures": 1})
    for cell in spec.cells():
        task = cell.task.model_dump()
        alone = {"model": cell.model, "task": task, "seed": cell.seed, "execution": {"max_failures": 1}, **recipe}
        assert spec.search_spec(cell).model_dump() == SearchSpec.model_validate(alone).model_dump()


# identity


OTHER = {
    "budget": "2%",
    "limits.evaluations": 7,
    "limits.epochs": 5.0,
    "limits.seconds": 60.0,
    "candidate.epochs": 2,
    "candidate.train_size": 50,
    "space.kinds": ["PA"],
    "space.parallel": "dora",
    "space.serial": "houlsby",
    "space.rank": 4,
    "space.bottleneck": 4,
    "space.ffn_bottleneck": 4,
    "space.prefix": 4,
    "modules.init": "paper",
    "modules.lora_alpha": 3.0,
    "modules.lora_dropout": 0.2,
    "modules.parallel_scale": 1.0,
    "training.patience": 1,
    "training.schedule": "cosine",
    "training.warmup_share": 0.5,
    "training.weight_decay": 0.5,
    "training.max_grad_norm": 2.0,
    "training.precision": "fp32",
    "training.frozen_dropout": False,
    "warmup.select": "effectiveness",
    "warmup.holdout": 0.5,
    "pruning.criteria": ["weight"],
    "pruning.profile": "paper",
    "pruning.compare": "raw",
    "pruning.blocks": "none",
    "pruning.dynamic": True,
    "pruning.evaluate_rounds": True,
    "pruning.threshold": 0.5,
    "pruning.threshold_quantile": 0.5,
}
"""Another value of a term; of those that are not here, 77 or 0.77 is one."""
FREE = ("execution.", "plugins", "methods", "tasks", "models", "seeds")
TERMS = [key for key in all_keys(StudySpec) if not key.startswith(FREE)]


def with_term(key, value):
    data = BASE
    for part in reversed(key.split(".")):
        value = {part: value}
    return StudySpec.model_validate(data | value)


def other_value(key):
    if key in OTHER:
        return OTHER[key]
    return 0.77 if "learning_rates" in key else 77


@pytest.mark.parametrize("key", TERMS)
def test_a_study_on_other_terms_is_another_study(key):
    before, now = study(), with_term(key, other_value(key))
    assert now.id != before.id
    with pytest.raises(InputError) as caught:
        now.check_extends(before, "runs/x")
    message = str(caught.value)
    assert message.startswith(f"runs/x contains a different study ({key}: ")
    assert " there, " in message
    assert "--output" in message


def test_terms_are_all_that_is_not_listed_as_free():
    assert set(OTHER) <= set(TERMS)
    assert len(TERMS) > 50


@given(
    methods=st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, unique=True),
    tasks=st.lists(st.sampled_from(["t", "u", "v"]), min_size=1, unique=True),
    models=st.lists(st.sampled_from(["m", "n"]), min_size=1, unique=True),
    seeds=st.lists(st.integers(-3, 2**31), min_size=1, unique=True),
    execution=st.fixed_dictionaries({"cpus": st.floats(0.1, 4), "max_failures": st.integers(0, 5)}),
    plugins=st.lists(st.sampled_from(["/x.py", "module"]), unique=True),
)
def test_more_of_an_axis_and_other_execution_leave_the_study_the_same(**changes):
    assert study(**changes).id == study().id


def test_an_id_is_stable_and_short():
    assert study().id == study().id
    assert len(study().id) == 12


# extension


def test_a_study_may_be_given_more_of_everything():
    more = study(
        methods=["asha", *BASE["methods"]],
        tasks=[*BASE["tasks"], "sst2"],
        models=["m", *BASE["models"]],
        seeds=[2, 1, 0],
        execution={"cpus": 0.5, "workers": 2},
        plugins=["/x.py"],
    )
    more.check_extends(study(), "x")
    study().check_extends(study(), "x")


def test_other_concurrency_changes_nothing_that_is_found():
    slower = study(methods=[{"name": "prunepeft", "concurrency": 1}, BASE["methods"][1]])
    slower.check_extends(study(), "x")
    study().check_extends(slower, "x")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ["prunepeft"]}, "methods: 'random-search' is missing here"),
        ({"tasks": ["packaged:movie"]}, "tasks: 'packaged:trec' is missing here"),
        ({"models": ["n"]}, "models: 'packaged:minilm' is missing here"),
        ({"seeds": [0]}, "seeds: 1 is missing here"),
        (
            {"methods": ["prunepeft", {"name": "random-search", "options": {"batch": 5}}]},
            "methods.random-search.options.batch: 4 there, 5 here",
        ),
        (
            {"methods": ["prunepeft", "random-search"]},
            "methods.random-search.options.batch: 4 there, None here",
        ),
        (
            {"methods": [{"name": "prunepeft", "options": {"x": 1}}, BASE["methods"][1]]},
            "methods.prunepeft.options.x: None there, 1 here",
        ),
        (
            {"methods": [{"name": "prunepeft", "evaluations": 3}, BASE["methods"][1]]},
            "methods.prunepeft.evaluations: None there, 3 here",
        ),
        (
            {"methods": [{"name": "random-search", "label": "prunepeft"}, BASE["methods"][1]]},
            "methods.prunepeft.name: 'prunepeft' there, 'random-search' here",
        ),
        (
            {"tasks": ["packaged:movie", {"name": "packaged:trec", "train_size": 200}]},
            "tasks.packaged:trec.train_size: 100 there, 200 here",
        ),
    ],
)
def test_what_is_missing_or_changed_is_named(changes, says):
    with pytest.raises(InputError) as caught:
        study(**changes).check_extends(study(), "runs/x")
    assert str(caught.value).startswith(f"runs/x contains a different study ({says})")
    assert "\n" not in str(caught.value)


def test_the_example_study_in_the_repository_can_be_read():
    folder = Path(__file__).parent.parent / "experiments"
    found = load_study(folder / "example-plugin.yaml")
    assert found.plugins == (str(folder / "example_plugin"),)


def test_the_quickstart_study_names_what_its_source_search_left():
    folder = Path(__file__).parent.parent / "experiments"
    found = {method.label: method.options for method in load_study(folder / "quickstart-compare.yaml").methods}
    for key in ("strategy", "architecture"):
        kept = json.loads((folder / "transfer" / "amazon" / f"{key}.json").read_text(encoding="utf-8"))
        assert found[f"amazon {key}"][key]["content"] == kept


def test_the_quickstart_source_has_the_model_space_and_pruning_of_the_quickstart_study():
    folder = Path(__file__).parent.parent / "experiments"
    study, source = load_study(folder / "quickstart-compare.yaml"), load_spec(folder / "quickstart-source.yaml")
    assert study.models == (source.model,)
    for name in set(RecipeConfig.model_fields) - {"training"}:
        assert getattr(study, name) == getattr(source, name)
    assert source.task.name not in {task.name for task in study.tasks}
