"""``prunepeft track``, and ``--track`` of the commands that run searches."""

import subprocess
import sys

import pytest
import yaml

from prunepeft_ray.cli.main import run
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.events import Event
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec

SEARCH = {"model": "packaged:minilm", "task": "packaged:movie", "budget": "1.3%"}
STUDY = {"methods": ["prunepeft"], "tasks": ["packaged:movie"], "models": ["packaged:minilm"], "budget": "1.3%"}
ARGUMENTS = ["search", *(word for key, value in SEARCH.items() for word in (f"--{key}", value)), "--output", "run"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))


def make_search(path):
    return RunFolder.create(path, SearchSpec.model_validate(SEARCH))


def make_study(path):
    return RunFolder.create(path, StudySpec.model_validate(STUDY))


def complaint(capsys, arguments, code=2):
    assert run(arguments) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["track", "run", "--to", "mlfow"], "unknown tracker 'mlfow': did you mean 'mlflow'? known: mlflow"),
        (["track", "run"], "--to"),
        (["track", "nope", "--to", "tensorboard"], "nope does not contain a run"),
        ([*ARGUMENTS, "--track", "tensorbord"], "did you mean 'tensorboard'"),
        (["compare", "study.yaml", "--track", "tensorbord"], "did you mean 'tensorboard'"),
        (["resume", "run", "--track", "tensorbord"], "did you mean 'tensorboard'"),
        (["resume", "study", "--track", "tensorbord"], "did you mean 'tensorboard'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_nothing_is_started(capsys, tmp_path, arguments, says):
    make_search(tmp_path / "run")
    make_study(tmp_path / "study")
    assert says in complaint(capsys, arguments)
    assert not (tmp_path / "runs").exists()


def test_the_command_says_what_it_logged_and_where(capsys, tmp_path):
    make_search(tmp_path / "run")
    assert run(["track", "run", "--to", "tensorboard"]) == 0
    where = tmp_path / "run" / "tensorboard"
    assert capsys.readouterr().out == f"tensorboard: 0 jobs logged, tensorboard --logdir {where}\n"


@pytest.mark.parametrize(
    ("arguments", "starts"),
    [
        (ARGUMENTS, "start_search"),
        (["compare", "study.yaml", "--output", "run"], "start_study"),
        (["resume", "search"], "resume_search"),
        (["resume", "study"], "resume_study"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_jobs_are_passed_on_to_the_trackers_while_they_run(tmp_path, monkeypatch, arguments, starts):
    heard = []
    make = make_study if starts.endswith("study") else make_search
    make_search(tmp_path / "search")
    make_study(tmp_path / "study")

    def start(*given, **_):
        emit = next(value for value in given if callable(value))
        emit(Event("end", "100 examples in 2.0 s", "round", "a"))
        return make(tmp_path / "made")

    monkeypatch.setattr(f"prunepeft_ray.execution.{starts}", start, raising=False)
    monkeypatch.setattr("prunepeft_ray.tracking.follower.Follower.put", lambda self, job_id: heard.append(job_id))
    assert run([*arguments, "--track", "tensorboard"]) == 0
    assert heard == ["a"]


def test_trackers_are_not_imported_where_they_are_not_wanted():
    code = (
        "import sys\n"
        "from prunepeft_ray.cli.main import run\n"
        "run(['methods'])\n"
        "import prunepeft_ray.tracking\n"
        "found = {'mlflow', 'wandb', 'tensorboard'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
