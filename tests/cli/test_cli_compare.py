"""``prunepeft compare``, and ``resume`` and ``report`` of a study: wrong input, what is shown, what is drawn."""

import io
import json
import subprocess
import sys

import pytest
import yaml

from prunepeft_ray.cli import study_progress
from prunepeft_ray.cli.main import run
from prunepeft_ray.cli.study_progress import progress_table, show_study
from prunepeft_ray.cli.terminal import Terminal
from prunepeft_ray.events import Event
from prunepeft_ray.execution import MethodProgress
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec

GOOD = {
    "methods": ["prunepeft", "random-search"],
    "tasks": ["packaged:movie"],
    "models": ["packaged:minilm"],
    "budget": "1.3%",
    "seeds": [0, 1],
}

NO_ADAPTER_FITS = {"methods": ["uniform-adapter"], "space": {"kinds": ["PT"], "prefix": 1}, "budget": "4000"}
"""A prefix vector is within that budget, an adapter in every layer is not."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path):
    """Writes a study file; parts may be given otherwise."""

    def make(**changes):
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(GOOD | changes))
        return "study.yaml"

    return make


def complaint(capsys, arguments, code=2):
    assert run(arguments) == code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured.out + captured.err
    return lines[0]


# wrong input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ["random-serach"]}, "unknown method 'random-serach': did you mean 'random-search'? known: "),
        ({"methods": []}, "study.yaml: methods: "),
        ({"tasks": []}, "study.yaml: tasks: "),
        ({"seeds": []}, "study.yaml: seeds: "),
        ({"methods": ["prunepeft", "prunepeft"]}, "methods: 'prunepeft' occurs twice; give one of them a label"),
        ({"method": ["prunepeft"]}, "unknown key 'method'; did you mean 'methods'?"),
        ({"budget": "1000"}, "smallest slot has 49,152"),
        ({"budget": "50%"}, "supernet has only 887,808"),
        ({"tasks": ["packaged:movies"]}, "did you mean 'packaged:movie'"),
        ({"models": ["packaged:minlm"]}, "did you mean 'packaged:minilm'"),
        ({"methods": ["random-search:3"]}, "'random-search' takes no argument after a colon"),
        ({"methods": [{"name": "prunepeft", "options": {"x": 1}}]}, "unknown key 'x'"),
        ({"methods": ["single:weigth"]}, "did you mean 'weight'"),
        (NO_ADAPTER_FITS, "uniform-adapter, packaged:movie, packaged:minilm: "),
        ({"plugins": ["./nope.py"]}, "nope.py is not a Python file or package on this machine"),
        ({"pruning": {"blocks": [0.5, 0.4]}}, "edges must increase"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_one_line_and_leaves_nothing(capsys, tmp_path, write, monkeypatch, changes, says):
    monkeypatch.setattr("prunepeft_ray.execution.study.start._run_on_ray", lambda *args: pytest.fail("Ray was started"))
    assert says in complaint(capsys, ["compare", write(**changes)])
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare"], "STUDY.yaml"),
        (["compare", "nope.yaml"], "nope.yaml: cannot be read"),
        (["compare", "study.yaml", "--outptu", "x"], "--outptu"),
        (["compaer", "study.yaml"], "Did you mean 'compare'"),
    ],
)
def test_a_wrong_command_is_one_line(capsys, write, arguments, says):
    write()
    assert says in complaint(capsys, arguments)


def test_a_file_that_is_no_yaml_is_one_line(capsys, tmp_path):
    (tmp_path / "study.yaml").write_text("methods: [prunepeft\nseeds")
    assert "not valid YAML" in complaint(capsys, ["compare", "study.yaml"])


@pytest.mark.system
def test_the_command_itself_exits_with_code_2_and_no_traceback(write):
    done = subprocess.run(
        [sys.executable, "-c", "from prunepeft_ray.cli.main import main; main()", "compare", write(seeds=[])],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def make_study(path, **changes):
    return RunFolder.create(path, StudySpec.model_validate(GOOD | changes))


def test_a_folder_of_another_study_is_refused(capsys, tmp_path, write):
    make_study(tmp_path / "run", budget="2%")
    message = complaint(capsys, ["compare", write(), "--output", "run"])
    assert "run contains a different study (budget: '2%' there, '1.3%' here)" in message
    assert "--output" in message


def test_a_folder_of_a_search_is_refused(capsys, tmp_path, write):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.yaml").write_text("{model: m, task: {name: t}, budget: 1%}")
    assert "run contains a search, not a study" in complaint(capsys, ["compare", write(), "--output", "run"])


def test_a_method_that_goes_wrong_in_an_unexpected_way_is_one_line(capsys, tmp_path, write):
    (tmp_path / "odd_plugin.py").write_text(
        "from prunepeft_ray import METHODS, MethodInfo\n"
        "METHODS.register('odd-one', MethodInfo('odd', lambda problem, options: problem.nothing))\n"
    )
    try:
        message = complaint(capsys, ["compare", write(methods=["odd-one"], plugins=["./odd_plugin.py"])])
    finally:
        from prunepeft_ray.methods import METHODS

        METHODS._items.pop("odd-one", None)
        sys.modules.pop("odd_plugin", None)
    assert "odd-one, packaged:movie, packaged:minilm: the method cannot be built: AttributeError" in message


# what is run


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What was started, instead of a study."""
    calls = []

    def start(spec, output, emit, watch, address=None, *, workers, pool=None):
        calls.append(("compare", spec.seeds, str(output), address, workers, pool))
        emit(Event("message", "reading 1 task and 1 model"))
        return make_study(tmp_path / "made")

    def resume(output, emit, watch, address=None, *, trust_plugins, workers, pool=None):
        calls.append(("resume", str(output), address, workers, pool))
        return RunFolder.open(output)

    def search(*args, **kwargs):
        pytest.fail("taken for a search")

    monkeypatch.setattr("prunepeft_ray.execution.start_study", start, raising=False)
    monkeypatch.setattr("prunepeft_ray.execution.resume_study", resume, raising=False)
    monkeypatch.setattr("prunepeft_ray.execution.resume_search", search, raising=False)
    return calls


def test_compare_runs_the_study_in_a_folder_named_after_the_file(capsys, write, started):
    assert run(["compare", write()]) == 0
    assert started == [("compare", (0, 1), "runs/study", None, None, None)]
    assert "reading 1 task" in capsys.readouterr().out


def test_compare_as_json_keeps_news_off_standard_output(capsys, write, started):
    options = ["--output", "elsewhere", "--address", "auto", "--pool", "shared", "--json"]
    assert run(["compare", write(), *options]) == 0
    assert started == [("compare", (0, 1), "elsewhere", "auto", None, "shared")]
    captured = capsys.readouterr()
    assert "rows" in json.loads(captured.out)
    assert "reading 1 task" in captured.err


def test_resume_goes_on_with_a_study_where_the_folder_holds_one(capsys, tmp_path, started):
    make_study(tmp_path / "run")
    assert run(["resume", "run", "--workers", "3"]) == 0
    capsys.readouterr()
    assert run(["resume", "run", "--address", "auto", "--no-pool", "--json"]) == 0
    assert "rows" in json.loads(capsys.readouterr().out)
    assert started == [("resume", "run", None, 3, None), ("resume", "run", "auto", None, "off")]


def test_report_shows_and_writes_a_study(capsys, tmp_path):
    make_study(tmp_path / "run")
    assert run(["report", "run", "--json"]) == 0
    assert "rows" in json.loads(capsys.readouterr().out)
    assert run(["report", "run", "--output", "found.md"]) == 0
    assert "prunepeft compare" in (tmp_path / "found.md").read_text()
    capsys.readouterr()
    assert "ending in .html or .md" in complaint(capsys, ["report", "run", "--output", "found.svg"])


def test_a_report_that_cannot_be_written_fails_with_exit_code_1(capsys, tmp_path):
    make_study(tmp_path / "run")
    assert "cannot be written" in complaint(capsys, ["report", "run", "--output", "no/such/folder.md"], code=1)


def test_an_interrupted_study_says_how_to_go_on(capsys, monkeypatch, write):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunepeft_ray.execution.start_study", interrupted, raising=False)
    assert "prunepeft resume" in complaint(capsys, ["compare", write()], code=130)


# what is drawn


def make_progress(method="prunepeft", **changes):
    values = {
        "ended": 1,
        "failed": 0,
        "searches": 4,
        "jobs": 17,
        "running": 2,
        "best": {("packaged:minilm", "packaged:movie"): 0.81234},
        "epochs": 12.345,
        "seconds_left": 300.0,
    }
    return MethodProgress(method, **values | changes)


def drawn(*rows, width=160):
    out = io.StringIO()
    Terminal(file=out, width=width).print(progress_table(rows))
    return [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in out.getvalue().splitlines()]


def test_the_table_has_a_row_for_each_method():
    lines = drawn(
        make_progress(),
        make_progress("random-search", ended=2, failed=1, running=0, best={}, seconds_left=None),
    )
    assert "method searches jobs running best dev movie epochs left" in lines
    assert "prunepeft 1/4 17 2 0.8123 12.3 5 min" in lines
    assert "random-search 2/4 (1 failed) 17 0 – 12.3 –" in lines


def test_the_table_has_a_column_for_each_task_and_model():
    best = {("packaged:minilm", "packaged:movie"): 0.5, ("/models/tiny/", "data/my.csv"): None}
    lines = drawn(make_progress(best=best))
    assert "method searches jobs running best dev movie, minilm best dev my.csv, tiny epochs left" in lines
    assert "prunepeft 1/4 17 2 0.5000 – 12.3 5 min" in lines


def test_a_label_with_brackets_is_shown_as_it_is():
    assert any("[bold]mine[/bold]" in line for line in drawn(make_progress("[bold]mine[/bold]")))


def test_an_empty_study_is_drawn():
    assert any("method" in line for line in drawn())


def shown(monkeypatch, steps, terminal=False):
    """What is shown for progress at those seconds."""
    now = [0.0]
    monkeypatch.setattr(study_progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with show_study(Terminal(file=out, force_terminal=terminal, width=160)) as (emit, watch):
        emit(Event("message", "reading [1] task"))
        for now[0], rows in steps:
            watch(rows)
    return out.getvalue()


def test_plain_lines_come_every_minute_and_at_the_end(monkeypatch):
    early, later = make_progress(jobs=1), make_progress(jobs=5, seconds_left=None)
    over = make_progress(jobs=9, ended=4, running=0, seconds_left=0.0)
    steps = [(1.0, [early]), (59.0, [early]), (61.0, [later]), (90.0, [early]), (95.0, [over])]
    assert shown(monkeypatch, steps).splitlines() == [
        "reading [1] task",
        "  prunepeft: 1/4 searches, 5 jobs, 2 running, 12.3 epochs, – left",
        "  prunepeft: 4/4 searches, 9 jobs, 0 running, 12.3 epochs, 0 s left",
    ]


def test_a_terminal_gets_a_live_table_and_messages_above_it(monkeypatch):
    text = shown(monkeypatch, [(1.0, [make_progress()])], terminal=True)
    assert "reading [1] task" in text
    assert "study so far" in text
    assert "prunepeft" in text


def test_single_jobs_are_not_told_on_a_terminal_unless_they_failed():
    out = io.StringIO()
    with show_study(Terminal(file=out, force_terminal=True, width=160)) as (emit, _):
        emit(Event("end", "100 examples in 2.0 s", "round", "a"))
        emit(Event("end", "failed: out of memory", "round", "b"))
        emit(Event("lost", "a worker died", "round", "b"))
    assert "100 examples" not in out.getvalue()
    assert "failed: out of memory" in out.getvalue()
    assert "a worker died" in out.getvalue()
