"""The examples of docs/analysis.md, run on a real study."""

import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from studies import SMALL, study_here

from prunepeft_ray.analysis import open_results
from prunepeft_ray.study import StudySpec

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")


def examples(language, path):
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    return [block.replace("runs/study", str(path)) for block in blocks]


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_bert):
    """Folder of a finished study."""
    spec = StudySpec.model_validate(
        {
            "methods": ["prunepeft", "random-search", "single:weight"],
            "tasks": [{"name": "packaged:movie", "train_size": 24, "dev_size": 16, "test_size": 16}],
            "models": [str(tiny_bert)],
            **SMALL,
        }
    )
    return study_here(spec, tmp_path_factory.mktemp("study") / "study")[0].path


@pytest.fixture(scope="module")
def python(study):
    """What the examples in Python leave behind, by the name that they gave it."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(found, "print", lambda *values: found.setdefault("printed", []).append(values))
        for block in examples("python", study):
            exec(compile(block, "analysis.md", "exec"), found)
    return found


@pytest.fixture(scope="module")
def sql(study):
    """What every query of the page gives, in order, and the connection."""
    connection = duckdb.connect()
    statements = [part.strip() for block in examples("sql", study) for part in block.split(";") if part.strip()]
    # a view gives nothing
    frames = [(statement, connection.execute(statement).df()) for statement in statements]
    return [frame for statement, frame in frames if not statement.startswith("CREATE")], connection


def test_the_examples_in_python_print_what_they_promise(python, study):
    methods = python["results"]["methods"]
    printed = python["printed"]
    assert set(methods.method) <= {*printed[0][0].split()}
    early, share, workers, failed, ends, losses = (values[0] for values in printed[1:])
    assert early.index.get_level_values("method").unique().tolist() == ["random-search"]
    assert share.loc["weight"].between(0, 1).any()
    assert workers["sum"].sum() == pytest.approx(python["results"]["jobs"].wall_seconds.sum())
    assert failed.empty
    assert ends.empty
    assert losses.loss.notna().sum() == (python["jobs"].evaluate != "none").sum()


def test_the_queries_give_what_the_frames_say(sql, study):
    (best, running, share, workers, failed), _ = sql
    results = open_results(study)
    methods = results["methods"].set_index("method")
    for row in best.itertuples():
        assert row.test == pytest.approx(methods.test_mean[row.method])
        assert row.search_epochs == pytest.approx(methods.search_epochs[row.method])
    assert set(best.method) == {"prunepeft", "random-search", "single:weight"}
    curves = results["best_so_far"].sort_values(["method", "seed", "position"])
    candidates = running[running.method == "random-search"]
    assert candidates.examples.tolist() == curves.examples.tolist()
    assert candidates.best.tolist() == pytest.approx(curves.value.tolist(), nan_ok=True)
    assert set(share.criterion) == {"weight"}
    jobs = results["jobs"]
    assert workers.jobs.sum() == len(jobs.explode("workers"))
    assert failed.empty


def test_the_charges_in_sql_are_those_of_the_derived_frame(sql, study):
    _, connection = sql
    ours = connection.sql("SELECT job_id, test, passes FROM charges JOIN requests USING (method, seed, position)").df()
    theirs = open_results(study)["charges"]
    assert len(ours) == len(theirs)
    pd.testing.assert_frame_equal(
        ours.sort_values("job_id").reset_index(drop=True),
        theirs[["job_id", "test", "passes"]].sort_values("job_id").reset_index(drop=True),
        check_dtype=False,
    )


def test_maps_are_read_without_this_package_as_the_page_says(study):
    jobs = pd.read_parquet(study / "results" / "jobs")
    own = open_results(study)["jobs"]
    assert [dict(pairs) for pairs in jobs.metrics] == own.metrics.tolist()
