import json
import resource
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from execution_toys import BUDGET, answer, assert_same_answer, job_ids, make_spec, search_here
from safetensors.torch import load_file

from prunepeft_ray.analysis import summarise
from prunepeft_ray.architecture import KINDS
from prunepeft_ray.errors import RunError, Terminated
from prunepeft_ray.execution import executor as executor_module
from prunepeft_ray.execution import resume_search, start_search
from prunepeft_ray.execution.drive import _story
from prunepeft_ray.execution.search import answer as answer_module
from prunepeft_ray.execution.search import start as start_module
from prunepeft_ray.jobs import Decision
from prunepeft_ray.report import summary_svg
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.storage.paths import names
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import load_adapter

pytestmark = pytest.mark.usefixtures("not_joined")


@pytest.fixture
def trained(monkeypatch):
    """Ids of the jobs that are really trained, in order."""
    ids = []
    train = executor_module.train

    def counting(job, *args):
        ids.append(job.id)
        return train(job, *args)

    monkeypatch.setattr(executor_module, "train", counting)
    return ids


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A copy of the undisturbed run, to be damaged."""
    return shutil.copytree(undisturbed[0], tmp_path / "copy")


def final_job(path):
    (file,) = (path / "checkpoints").glob("*.safetensors")
    return file.stem


@pytest.mark.parametrize("workers", [1, None])
def test_a_small_search_is_run_in_this_process_without_ray(tmp_path, spec, undisturbed, monkeypatch, workers):
    def refuse(*args, **kwargs):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(start_module, "ray_cluster", refuse)
    threads, numbers, events = torch.get_num_threads(), torch.get_rng_state(), []
    folder = start_search(spec, tmp_path / "run", events.append, workers=workers)
    assert_same_answer(answer(folder.path), answer(undisturbed[0]))
    (outcome,) = [folder.read_json(f"attempts/{name}")["outcome"] for name in names(folder.attempts)]
    assert outcome == "finished"
    assert any("running in this process" in event.text for event in events) is (workers is None)
    # the caller's own settings are as before
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), numbers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_search_in_this_process_after_a_checkpoint(tmp_path, spec, undisturbed, number):
    events = []

    def interrupt_in_a_round(event):
        events.append(event)
        if event.type == "progress" and event.kind == "round" and event.done >= 16:
            signal.raise_signal(number)

    kind = KeyboardInterrupt if number == signal.SIGINT else Terminated
    eager = spec.model_copy(update={"execution": spec.execution.model_copy(update={"checkpoint_seconds": 0.01})})
    with pytest.raises(kind):
        start_search(eager, tmp_path / "run", interrupt_in_a_round, workers=1)
    assert "stopping: saving checkpoints; press Ctrl-C again to stop immediately" in [e.text for e in events]
    assert events[-1].text == "stopped; checkpoint saved"
    resume_search(tmp_path / "run", events.append, workers=1)
    assert_same_answer(answer(tmp_path / "run"), answer(undisturbed[0]))


def test_a_search_says_once_how_many_texts_are_cut(tiny_bert, small_task, tmp_path):
    spec = make_spec(tiny_bert, small_task, "training.max_length=4")
    texts = []
    search_here(spec, tmp_path / "run", lambda event: texts.append(event.text))
    data = load_task(spec.task)
    assert [text for text in texts if "are truncated" in text] == [
        "texts of more than 4 tokens (training.max_length) are truncated: "
        f"{len(data.train)} of {len(data.train)} in train, {len(data.dev)} of {len(data.dev)} in dev, "
        f"{len(data.test)} of {len(data.test)} in test"
    ]


def test_a_search_leaves_exactly_the_promised_files(undisturbed):
    path = undisturbed[0]
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    ids = job_ids(path)
    tables = {f"results/{table}/{id}.parquet" for table in ("jobs", "epochs", "scores", "architectures") for id in ids}
    decisions = {file for file in files if file.startswith("results/decisions/") and file.endswith(".parquet")}
    adapter = {"adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/README.md"}
    answer_files = {"spec.yaml", "architecture.json", "strategy.json", f"checkpoints/{final_job(path)}.safetensors"}
    assert len(ids) >= 5
    # two turns for six criteria, then two rounds
    assert len(decisions) >= 4
    assert files - {"results/.lock"} == tables | decisions | adapter | answer_files


def test_a_search_over_all_kinds_of_slots(tiny_bert, small_task, tmp_path):
    spec = make_spec(
        tiny_bert,
        small_task,
        f"space.kinds=[{', '.join(KINDS)}]",
        "space.ffn_bottleneck=4",
        "space.prefix=4",
        budget="4000",
    )
    folder = search_here(spec, tmp_path / "run")
    summary = summarise(folder)
    assert len(summary.supernet) == 4 * len(KINDS)
    assert set(summary.strategy) == {f"{block}.{kind}" for block in range(4) for kind in KINDS}
    assert 0 < len(summary.found) < len(summary.supernet)
    predictor = load_adapter(folder.path)
    assert predictor.evaluate(load_task(spec.task).test) == pytest.approx(summary.test, abs=1e-6)
    predictor.close()
    tensors = load_file(folder.path / "adapter" / "adapter_model.safetensors")
    counted = sum(tensor.numel() for name, tensor in tensors.items() if not name.startswith("head."))
    assert counted == summary.parameters <= 4000
    assert all(f'id="{slot}"' in summary_svg(summary) for slot in summary.supernet.slots)
    scores = ResultsStore(folder.results).read("scores")
    assert set(scores["kind"]) == set(KINDS)


def test_the_answer_fits_the_budget_as_torch_counts(undisturbed):
    path = undisturbed[0]
    found = json.loads((path / "architecture.json").read_text())
    tensors = load_file(path / "adapter" / "adapter_model.safetensors")
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    counted = sum(size for name, size in sizes.items() if not name.startswith("head."))
    assert 0 < counted <= BUDGET == found["budget"]
    assert counted == found["parameters"]
    assert sum(sizes.values()) - counted == found["head_parameters"]
    assert {".".join(name.split(".")[:2]) for name in sizes if not name.startswith("head.")} == {
        f"{slot['kind']}.{slot['layer']}" for slot in found["slots"]
    }


def test_the_adapter_scores_what_the_final_job_reports(undisturbed, spec):
    path = undisturbed[0]
    final = ResultsStore(path / "results").find(final_job(path))
    predictor = load_adapter(path)
    assert predictor.evaluate(load_task(spec.task).test) == pytest.approx(final.test, abs=1e-6)
    predictor.close()
    assert f"| accuracy | {final.test['accuracy']:.4f} |" in (path / "adapter" / "README.md").read_text()


def test_only_the_final_job_looks_at_the_test_split(undisturbed):
    path = undisturbed[0]
    store = ResultsStore(path / "results")
    assert {id for id in job_ids(path) if store.find(id).test} == {final_job(path)}


def test_the_news_are_told_in_order(undisturbed):
    path, events = undisturbed
    started = [event.job_id for event in events if event.type == "start"]
    ended = [event.job_id for event in events if event.type == "end"]
    assert started == ended
    assert set(started) == job_ids(path)
    assert {event.kind for event in events if event.type == "start"} == {"warmup", "round", "final"}
    progress = [event for event in events if event.type == "progress"]
    assert all(0 < event.done <= event.total for event in progress)
    assert {event.job_id for event in progress} == set(started)
    told = [event.text for event in events if event.type == "message"]
    found = json.loads((path / "architecture.json").read_text())
    removed = [text.split()[3] for text in told if text.startswith("round")]
    assert {text[:7] for text in told if text.startswith("round")} == {"round 1", "round 2"}
    every = {f"{slot['kind']}.{slot['layer']}" for slot in found["supernet"]["slots"]}
    assert sorted(removed) == sorted(every - {f"{slot['kind']}.{slot['layer']}" for slot in found["slots"]})
    assert told[-1] == f"{len(found['slots'])} slots left"


def test_who_abstained_is_told():
    def decision(step, criteria, removed=False, slot="SA.1"):
        return Decision(step, 2, slot, "0.SA", criteria, 0.25, removed, "j")

    warmup = [decision("warmup", ("zeros",)), decision("warmup", ("weight",)), decision("warmup", ("weight",), True)]
    assert _story(warmup) == ["zeros abstains in warm-up turn 2: it gives every slot the same value"]
    assert _story([decision("round", (), True), decision("round", ("weight",), slot="SA.0")]) == [
        "round 2 removed SA.1 (p=0.250; no criterion distinguishes it)",
        "1 slots left",
    ]


def test_a_second_run_trains_nothing_and_gives_the_same_answer(copy, spec, undisturbed, trained):
    search_here(spec, copy, again=True)
    assert trained == []
    assert_same_answer(answer(copy), answer(undisturbed[0]))


def test_lost_jobs_alone_are_trained_again(copy, spec, undisturbed, trained):
    before = answer(undisturbed[0])
    lost = sorted(job_ids(copy) - {final_job(copy)})[::2]
    for id in lost:
        for file in (copy / "results").glob(f"*/{id}.parquet"):
            file.unlink()
    (copy / "architecture.json").unlink()
    search_here(spec, copy, again=True)
    assert sorted(trained) == lost
    assert_same_answer(answer(copy), before)


def test_lost_rows_of_an_unfinished_job_do_no_harm(copy, spec, undisturbed, trained):
    # killed after the other tables were written: the job's row is missing
    lost = sorted(job_ids(copy) - {final_job(copy)})[0]
    (copy / "results" / "jobs" / f"{lost}.parquet").unlink()
    search_here(spec, copy, again=True)
    assert trained == [lost]
    assert_same_answer(answer(copy), answer(undisturbed[0]))


def test_lost_weights_are_trained_again(copy, spec, undisturbed, trained):
    final = final_job(copy)
    (copy / "checkpoints" / f"{final}.safetensors").unlink()
    shutil.rmtree(copy / "adapter")
    search_here(spec, copy, again=True)
    assert trained == [final]
    assert_same_answer(answer(copy), answer(undisturbed[0]))


def test_damaged_weights_are_said_to_be_so(copy, spec):
    file = copy / "checkpoints" / f"{final_job(copy)}.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match="damaged") as caught:
        search_here(spec, copy, again=True)
    assert str(file) in str(caught.value)


def test_the_same_seed_gives_the_same_bytes(tmp_path, spec, undisturbed):
    search_here(spec, tmp_path / "run")
    assert_same_answer(answer(tmp_path / "run"), answer(undisturbed[0]))


def test_another_seed_trains_other_jobs(tmp_path, tiny_bert, small_task, undisturbed):
    spec = make_spec(tiny_bert, small_task, "warmup.turns=1", "pruning.criteria=[gate]", "training.epochs=1", seed=1)
    search_here(spec, tmp_path / "run")
    assert not job_ids(tmp_path / "run") & job_ids(undisturbed[0])


CHEAP = ("warmup.turns=1", "warmup.train_size=16", "pruning.train_size=16", "training.epochs=1")


@pytest.mark.parametrize(
    "settings",
    [
        ("warmup.select=effectiveness", "pruning.criteria=[weight,gate]"),
        ("pruning.dynamic=true",),
        ("pruning.profile=paper", "pruning.compare=raw", "modules.init=paper"),
        ("pruning.profile=reference", "pruning.blocks=reference"),
        ("pruning.criteria=[gate]", "pruning.blocks=none", "pruning.remove=1"),
        ("space.kinds=[PA]", "pruning.criteria=[zeros,threshold]", "pruning.threshold=0.001"),
        ("space.parallel=dora", "space.serial=houlsby", "pruning.criteria=[activation,sensitivity]"),
    ],
    ids=lambda settings: settings[0],
)
def test_every_way_to_search_ends_within_the_budget(tmp_path, tiny_bert, small_task, settings):
    search_here(make_spec(tiny_bert, small_task, *CHEAP, *settings), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "architecture.json").read_text())
    assert 0 < found["parameters"] <= BUDGET
    assert 0 < len(found["slots"]) < len(found["supernet"]["slots"])
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_failing_job_is_named(tmp_path, tiny_bert, small_task):
    rates = [f"training.learning_rates.{kind}=1e20" for kind in ("PA", "SA", "head")]
    with pytest.raises(RunError, match=r"warm-up turn 1/1.*failed: the training loss is") as caught:
        search_here(make_spec(tiny_bert, small_task, *CHEAP, "warmup.epochs=3", *rates), tmp_path / "run")
    (job,) = job_ids(tmp_path / "run")
    assert job in str(caught.value)
    assert not RunFolder.open(tmp_path / "run").finished


def test_a_failing_job_takes_nothing_with_it(copy, spec, undisturbed, monkeypatch):
    final = final_job(copy)
    for file in [*(copy / "results").glob(f"*/{final}.parquet"), copy / "architecture.json"]:
        file.unlink()
    (copy / "checkpoints" / f"{final}.safetensors").unlink()
    train = executor_module.train

    def failing(*args):
        done = train(*args)
        return replace(done, result=replace(done.result, status="failed", reason="the cat"), state={})

    monkeypatch.setattr(executor_module, "train", failing)
    with pytest.raises(RunError, match=rf"final retraining \(job {final}\) failed: the cat"):
        search_here(spec, copy, again=True)
    assert job_ids(copy) == job_ids(undisturbed[0])
    assert not (copy / "architecture.json").exists()
    assert not list((copy / "checkpoints").iterdir())
    store = ResultsStore(copy / "results")
    assert [id for id in job_ids(copy) if store.find(id).status == "failed"] == [final]


@contextmanager
def tiny_disk():
    """Every file that grows beyond 2,000 bytes meets an error of the system."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def on_a_tiny_disk(function):
    def wrapped(*args):
        with tiny_disk():
            return function(*args)

    return wrapped


@pytest.mark.parametrize(("place", "name"), [(executor_module.GroupExecutor, "_save"), (answer_module, "save_adapter")])
def test_a_full_disk_ends_in_one_line_and_a_resume_goes_on(copy, spec, undisturbed, monkeypatch, trained, place, name):
    final = final_job(copy)
    (copy / "checkpoints" / f"{final}.safetensors").unlink()
    (copy / "architecture.json").unlink()
    shutil.rmtree(copy / "adapter")
    with monkeypatch.context() as patch:
        patch.setattr(place, name, on_a_tiny_disk(getattr(place, name)))
        with pytest.raises(RunError, match=r"cannot be written .*too large.*jobs are safe.*resume") as caught:
            search_here(spec, copy, again=True)
    assert "\n" not in str(caught.value)
    assert not (copy / "architecture.json").exists()
    kept = {file.name for file in (copy / "checkpoints").iterdir() if file.suffix != ".work"}
    assert kept <= {f"{final}.safetensors", f"{final}.ckpt"}
    search_here(spec, copy, again=True)
    assert set(trained) == {final}
    assert {file.name for file in (copy / "checkpoints").iterdir()} == {f"{final}.safetensors"}
    assert_same_answer(answer(copy), answer(undisturbed[0]))
