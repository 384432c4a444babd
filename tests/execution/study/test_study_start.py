"""Starting and resuming a study: everything is checked before a folder is made and Ray is started."""

import shutil
import signal
from types import SimpleNamespace

import pytest
from studies import SMALL, study_here
from study_fakes import OrderToy, filled

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.execution import resume_study, start_study
from prunepeft_ray.execution.study import in_process
from prunepeft_ray.execution.study import start as compare
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.methods import MethodInfo
from prunepeft_ray.pruning import GeneratorMethod
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.study import StudySpec

pytestmark = pytest.mark.usefixtures("not_joined")


class Everything(GeneratorMethod):
    """Evaluates the lowest layer and chooses it."""

    def __init__(self, problem):
        one = filled(0, 1)
        work = problem.candidate_work(one, "candidate 1")
        super().__init__(iter_of((work,)), one)


def iter_of(batch):
    yield batch


@pytest.fixture(autouse=True)
def _methods(methods):
    methods(lowest=MethodInfo("toy", lambda problem, options: Everything(problem)))


@pytest.fixture
def study(tiny_bert, small_task):
    """Makes a study; parts may be given otherwise."""

    def make(**changes):
        values = SMALL | {"methods": ["lowest", "prune"], "tasks": [str(small_task)], "models": [tiny_bert]}
        return StudySpec.model_validate(values | changes)

    return make


@pytest.fixture
def ray_runs(monkeypatch):
    """The studies that would have been run on Ray."""
    runs = []
    monkeypatch.setattr(compare, "_run_on_ray", lambda folder, spec, *rest: runs.append(spec))
    return runs


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Where the study that has run to its end is, once a test has asked for it."""
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def finished(study, once, tmp_path):
    """Folder of a study that has run to its end, to do with as one likes."""
    if not once.exists():
        study_here(study(), once)
    return RunFolder(shutil.copytree(once, tmp_path / "run"))


def begin(spec, path, messages=None, workers=2):
    return start_study(spec, path, _teller(messages), lambda progress: None, workers=workers)


def go_on(path, messages=None, seen=None, workers=2):
    watch = (lambda progress: None) if seen is None else seen.append
    return resume_study(path, _teller(messages), watch, workers=workers)


def _teller(messages):
    return lambda event: messages is None or messages.append(event.text)


@pytest.fixture
def refusal(tmp_path, ray_runs):
    def refuse(spec, path=None, call=begin):
        with pytest.raises(InputError) as caught:
            call(spec, path or tmp_path / "new")
        assert "\n" not in str(caught.value)
        assert ray_runs == []
        assert not (tmp_path / "new").exists()
        return str(caught.value)

    return refuse


# a new study


def test_a_new_study_leaves_its_settings_and_runs_on_ray(study, tmp_path, ray_runs):
    messages = []
    folder = begin(study(), tmp_path / "new", messages)
    assert messages == ["reading 1 task and 1 model"]
    assert folder.is_study
    # resolved for this machine, so that a resume elsewhere computes the same
    assert folder.study.training.micro_batches is not None
    assert [folder.study] == ray_runs


@pytest.mark.parametrize("workers", [1, None])
def test_a_small_study_is_run_in_this_process_with_the_same_results(study, finished, tmp_path, ray_runs, workers):
    messages = []
    folder = begin(study(), tmp_path / "new", messages, workers)
    assert ray_runs == []
    assert any("running in this process" in text for text in messages) is (workers is None)
    assert results(folder) == results(finished)


def test_a_signal_stops_a_study_in_this_process_and_a_resume_gives_the_same(study, finished, tmp_path, ray_runs):
    def interrupt(event):
        if event.type == "progress":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start_study(study(), tmp_path / "new", interrupt, lambda progress: None, workers=1)
    assert len(results(RunFolder(tmp_path / "new"))[0]) < len(results(finished)[0])
    assert results(go_on(tmp_path / "new", workers=1)) == results(finished)


def test_a_job_whose_module_raises_fails_alone_in_this_process(study, tmp_path, ray_runs, monkeypatch):
    monkeypatch.setattr(in_process, "GroupExecutor", lambda *args, **kwargs: SimpleNamespace(run=broken))
    folder = begin(study(methods=["lowest"]), tmp_path / "new", workers=1)
    failed = ResultsStore(folder.results).read("jobs")
    assert set(failed.status) == {"failed"}
    assert set(failed.reason) == {"ValueError: no such size"}


def broken(work):
    raise ValueError("no such size")


def results(folder):
    """What jobs found, without times and places."""
    jobs = ResultsStore(folder.results).read("jobs").set_index("job_id").sort_index()
    metrics = jobs[["status", "parameters", "best_epoch"]].to_dict("index")
    epochs = ResultsStore(folder.results).read("epochs").sort_values(["job_id", "epoch"])
    return metrics, list(zip(epochs.job_id, epochs.epoch, epochs.train_loss, strict=True))


def test_what_is_told_from_a_file_is_said_when_a_study_begins_and_resumes_and_travels_in_its_spec(
    study, small_task, tmp_path, ray_runs
):
    data = small_task.read_text().replace(",", ";").encode("utf-16")
    file = tmp_path / "small.csv"
    file.write_bytes(data)
    line = f"{file}: detected encoding UTF-16 and separator ';'; override with --encoding and --separator"
    messages = []
    begin(study(tasks=[str(file)]), tmp_path / "new", messages)
    go_on(tmp_path / "new", messages)
    assert messages.count(line) == 2
    named = []
    folder = begin(
        study(tasks=[{"name": str(file), "encoding": "utf-16", "separator": ";"}]), tmp_path / "named", named
    )
    assert named == ["reading 1 task and 1 model"]
    assert (folder.study.tasks[0].encoding, folder.study.tasks[0].separator) == ("utf-16", ";")


def test_an_unknown_method_is_refused_with_the_nearest(study, refusal):
    message = refusal(study(methods=["lowset"]))
    assert message.startswith("unknown method 'lowset': did you mean 'lowest'? known: ")
    assert "prunepeft" in message


def test_a_wrong_name_or_option_is_found_before_anything_is_read(study, refusal):
    assert "unknown method" in refusal(study(methods=["lowset"], tasks=["nope.csv"], models=["./nope"]))
    wrong = study(methods=[{"name": "lowest", "options": {"size": 1}}], tasks=["nope.csv"])
    assert refusal(wrong).startswith("method 'lowest': unknown key 'size'")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": ["packaged:movei"]}, "did you mean 'packaged:movie'"),
        ({"tasks": ["nope.csv"]}, "nope.csv"),
        ({"models": ["./nope"]}, "no such folder"),
        ({"budget": "10"}, "the smallest slot has 292"),
        ({"budget": "50%"}, "the whole supernet has only 3,216"),
        ({"budget": "much"}, "expected a number"),
        ({"space": {"rank": [1, 2]}}, "the backbone has 4 layers"),
        ({"plugins": ["/nowhere/x.py"]}, "/nowhere/x.py is not a Python file or package"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused(study, refusal, changes, says):
    assert says in refusal(study(**changes))


def test_a_method_that_does_not_fit_is_named_with_task_and_model(study, refusal, tiny_bert, small_task):
    message = refusal(study(pruning={"criteria": ["weigth"]}))
    assert message.startswith(f"prune, {small_task}, {tiny_bert}: unknown criterion 'weigth': did you mean 'weight'?")


def test_a_method_that_cannot_be_built_is_one_line(study, refusal, methods):
    def build(problem, options):
        raise KeyError("two\nlines")

    methods(broken=MethodInfo("toy", build))
    assert "the method cannot be built: KeyError: 'two\\nlines'" in refusal(study(methods=["lowest", "broken"]))


def test_every_method_is_built_once_for_each_task_and_model(study, methods, small_task, tmp_path):
    other = shutil.copy(small_task, tmp_path / "other.csv")
    built = []

    def build(problem, options):
        built.append((problem.template.task, problem.seed))
        return OrderToy(problem)

    methods(toy=MethodInfo("toy", build))
    spec = study(methods=["toy"], tasks=[str(small_task), str(other)], seeds=[4, 5])
    settings, data = plan_study(spec, lambda event: None)
    assert built == [(str(small_task), 4), (str(other), 4)]
    assert len(settings) == 4
    assert set(data) == {str(small_task), str(other)}


def test_all_methods_work_on_one_split_one_budget_and_one_recipe(study):
    settings, data = plan_study(study(seeds=[0, 1]), lambda event: None)
    problems = [setting.problem for setting in settings]
    assert len({problem.template.task_fingerprint for problem in problems}) == 1
    assert {problem.budget for problem in problems} == {1500}
    assert {problem.spec.training for problem in problems} == {study().training}
    assert {setting.train_size for setting in settings} == {len(next(iter(data.values())).train)}
    assert len({setting.context.run_id for setting in settings}) == 4


def test_a_method_may_have_evaluations_of_its_own(study):
    spec = study(methods=[{"name": "lowest", "evaluations": 9}, "prune"])
    settings, _ = plan_study(spec, lambda event: None)
    assert [setting.problem.evaluations for setting in settings] == [9, 3]


# folders


def test_a_folder_with_something_else_is_left_alone(study, refusal, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    assert "not empty" in refusal(study(), tmp_path / "photos")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_the_folder_of_a_search_is_refused(study, refusal, tmp_path, tiny_bert, small_task):
    (tmp_path / "run").mkdir()
    text = f"model: {tiny_bert}\ntask: {{name: {small_task}}}\nbudget: '1500'\n"
    (tmp_path / "run" / "spec.yaml").write_text(text)
    assert "contains a search, not a study" in refusal(study(), tmp_path / "run")
    assert "contains a search, not a study" in refusal(None, tmp_path / "run", lambda spec, path: go_on(path))
    assert (tmp_path / "run" / "spec.yaml").read_text() == text


def test_a_folder_without_a_study_cannot_be_resumed(refusal, tmp_path):
    assert "does not contain a run" in refusal(None, tmp_path / "nowhere", lambda spec, path: go_on(path))


def test_the_folder_of_another_study_is_refused(study, refusal, tmp_path, ray_runs):
    begin(study(), tmp_path / "run")
    ray_runs.clear()
    before = (tmp_path / "run" / "spec.yaml").read_bytes()
    message = refusal(study(budget=1400), tmp_path / "run")
    assert f"{tmp_path / 'run'} contains a different study (budget: '1500' there, '1400' here)" in message
    assert "methods: 'prune' is missing here" in refusal(study(methods=["lowest"]), tmp_path / "run")
    assert (tmp_path / "run" / "spec.yaml").read_bytes() == before


def test_a_study_that_is_given_more_goes_on_with_all_of_it(study, tmp_path, ray_runs):
    begin(study(), tmp_path / "run")
    more = study(seeds=[0, 1], execution={"cpus": 0.5})
    begin(more, tmp_path / "run")
    assert ray_runs[1].seeds == (0, 1)
    assert RunFolder.open(tmp_path / "run").study == ray_runs[1]
    go_on(tmp_path / "run")
    assert ray_runs[2] == ray_runs[1]


def test_what_depends_on_the_machine_stays_as_it_was_when_the_study_began(study, tmp_path, ray_runs, monkeypatch):
    begin(study(), tmp_path / "run")
    monkeypatch.setattr("prunepeft_ray.execution.session.default_micro_batches", lambda device, workers: 7)
    begin(study(seeds=[0, 1]), tmp_path / "run")
    assert ray_runs[1].training == ray_runs[0].training


# going on


def test_a_finished_study_resumes_without_ray(finished, ray_runs):
    messages, seen = [], []
    before = sorted((finished.path / "results").rglob("*.parquet"))
    for call in (lambda: go_on(finished.path, messages, seen), lambda: begin(finished.study, finished.path, messages)):
        call()
        assert messages[-1] == f"{finished.path} is finished; there is nothing to run"
    assert "resuming" in messages[1]
    assert ray_runs == []
    assert sorted((finished.path / "results").rglob("*.parquet")) == before
    assert [(row.method, row.ended, row.failed, row.searches) for row in seen[-1]] == [
        ("lowest", 1, 0, 1),
        ("prune", 1, 0, 1),
    ]
    # no news of what was known
    assert not [text for text in messages if text.startswith(("lowest", "prune"))]


def test_a_finished_study_is_in_the_store_as_it_ran(finished):
    store = ResultsStore(finished.results)
    ends, requests = store.read("searches"), store.read("requests")
    assert set(ends.status) == {"done"}
    assert (ends.parameters <= 1500).all()
    assert set(requests.job_id) == set(store.read("jobs").job_id)
    assert set(requests.run_id) == {finished.study.id}
    told, unordered = compare._requests(store)
    assert unordered == []
    assert sorted(len(found) for found in told.values()) == sorted(requests.groupby("method").size())
    assert all([one.position for one in found] == list(range(len(found))) for found in told.values())


def test_a_study_with_a_failed_search_resumes_without_ray(study, tmp_path, ray_runs, methods):
    class Failing(OrderToy):
        def tell(self, job, result):
            raise ValueError("a bug")

    methods(failing=MethodInfo("toy", lambda problem, options: Failing(problem)))
    folder, _ = study_here(study(methods=["lowest", "failing"]), tmp_path / "run")
    messages, seen = [], []
    go_on(folder.path, messages, seen)
    assert ray_runs == []
    assert messages[-1].endswith("there is nothing to run")
    assert [row.failed for row in seen[-1]] == [0, 1]


def test_only_what_is_missing_runs_after_an_addition(study, finished):
    done = set(ResultsStore(finished.results).read("jobs").job_id)
    folder, trained = study_here(study(seeds=[0, 1]), finished.path)
    assert trained
    assert not done & {work.job.id for work in trained}
    assert len(ResultsStore(folder.results).read("searches")) == 4


def test_a_study_that_lacks_something_goes_to_ray(finished, ray_runs):
    next((finished.path / "results" / "searches").glob("*.parquet")).unlink()
    next((finished.path / "results" / "requests").glob("*.parquet")).unlink()
    go_on(finished.path)
    # what was told is still in the store as jobs
    assert ray_runs == []
    for file in (finished.path / "results" / "jobs").glob("*.parquet"):
        file.unlink()
    shutil.rmtree(finished.path / "results" / "searches")
    shutil.rmtree(finished.path / "results" / "requests")
    go_on(finished.path)
    assert len(ray_runs) == 1


@pytest.mark.parametrize("added", [False, True], ids=["resume", "compare"])
def test_a_task_that_has_changed_since_is_refused_and_nothing_is_touched(study, tmp_path, ray_runs, small_task, added):
    file = tmp_path / "task.csv"
    shutil.copy(small_task, file)
    folder, _ = study_here(study(methods=["lowest"], tasks=[str(file)]), tmp_path / "run")
    before = (folder.path / "spec.yaml").read_bytes()
    file.write_text(file.read_text() + "something quite new,yes\n")
    with pytest.raises(InputError) as caught:
        if added:
            begin(study(methods=["lowest"], tasks=[str(file)], seeds=[0, 1]), folder.path)
        else:
            go_on(folder.path)
    assert f"the task '{file}' has changed since this run began" in str(caught.value)
    assert ray_runs == []
    assert (folder.path / "spec.yaml").read_bytes() == before


def test_a_damaged_store_ends_the_study_with_what_to_do(finished, ray_runs):
    jobs = finished.path / "results" / "jobs"
    file = sorted(jobs.glob("*.parquet"))[0]
    file.write_bytes(b"nonsense")
    with pytest.raises(RunError, match="missing or damaged"):
        go_on(finished.path)
    assert ray_runs == []


def test_two_processes_cannot_run_a_study_at_once(study, tmp_path, ray_runs, monkeypatch):
    path = tmp_path / "run"
    begin(study(), path)
    before = (path / "spec.yaml").read_bytes()

    def meanwhile(folder, spec, *rest):
        monkeypatch.setattr(compare, "_run_on_ray", lambda folder, spec, *rest: pytest.fail("both run"))
        with pytest.raises(InputError, match="has been working on"):
            begin(study(seeds=[0, 1]), path)
        assert (path / "spec.yaml").read_bytes() == before

    monkeypatch.setattr(compare, "_run_on_ray", meanwhile)
    go_on(path)


# results that are gone


@pytest.mark.parametrize("table", ["jobs", "epochs", "requests", "searches", "decisions"])
def test_a_study_of_which_results_are_gone_computes_them_and_nothing_else(study, finished, table):
    store = ResultsStore(finished.results)
    rows = {name: len(store.read(name)) for name in ("jobs", "requests", "searches", "decisions")}
    deleted = sorted((finished.results / table).glob("[!.]*.parquet"))[0]
    deleted.unlink()
    trained = study_here(study(), finished.path)[1]
    assert [work.job.id for work in trained] == ([deleted.stem] if table in ("jobs", "epochs") else [])
    if table != "decisions":
        assert {name: len(store.read(name)) for name in rows} == rows


def test_a_study_whose_results_are_deleted_while_it_runs_is_not_finished(study, finished, monkeypatch):
    store = ResultsStore(finished.results)
    settings, _ = plan_study(finished.study, lambda event: None)
    told, _ = compare._requests(store)
    searches = [StudySearch(setting, store, told[setting.context.run_id]) for setting in settings]
    for search in searches:
        search.begin()
    compare._check_kept(finished, store, searches)
    for table in ("jobs", "epochs", "requests", "searches"):
        name = searches[0].depends_on["jobs" if table == "epochs" else table][0]
        file = finished.results / table / f"{name}.parquet"
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(
            RunError, match=rf"{table}/{name}.parquet, needed .* is missing from .*'prunepeft resume \S+'"
        ):
            compare._check_kept(finished, store, searches)
        # its method is asked again, that of the other search is not
        assert [store.find_search(search.setting.context.run_id) is None for search in searches] == [True, False]
        file.write_bytes(content)
        store.commit_search(searches[0]._outcome("done"))
