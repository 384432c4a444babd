"""The driver takes a folder, keeps in it what was sent along, and finds it again there."""

import pytest
import yaml
from service_fakes import a_submission

from prunepeft_ray.errors import InputError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.service.driver import _claim_folder, _recorded_spec, _run
from prunepeft_ray.service.package import packed
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.storage.paths import names, open_path, read_bytes

SEARCH = {"model": "packaged:minilm", "budget": "1%", "plugins": ["mine.py", "installed"]}
STUDY = {"models": ["packaged:minilm"], "methods": ["prunepeft"], "budget": "1%", "plugins": ["mine.py"]}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Packs a search or a study with a task and a plugin; returns the package's folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def pack(kind=SEARCH, text="text,label\nx,1\n"):
        (home / "task.csv").write_text(text)
        (home / "mine.py").write_text("X = 1\n")
        task = str(home / "task.csv")
        (home / "spec.yaml").write_text(
            yaml.safe_dump(kind | ({"tasks": [task]} if "methods" in kind else {"task": task}))
        )
        target = tmp_path / f"package-{len(list(tmp_path.iterdir()))}"
        with packed(home / "spec.yaml") as found:
            found.folder.rename(target)
            target.joinpath("x").mkdir()  # what else a working folder has
            found.folder.mkdir()
        return target

    return pack


def test_a_free_folder_is_taken_and_holds_all_that_a_resume_needs(tmp_path, package):
    folder = tmp_path / "run"
    spec, _ = _claim_folder(a_submission(), folder, package())
    assert spec.task.name == "inputs/task.csv"
    assert spec.plugins == (str(folder / "inputs" / "mine.py"), "installed")
    assert (folder / "inputs" / "task.csv").read_text() == "text,label\nx,1\n"
    assert RunOwner.read(folder).job == "demo-3f2a"
    assert _recorded_spec(folder, tmp_path) == spec


def test_in_a_bucket_plugins_are_looked_for_in_the_working_folder(tmp_path, package, bucket):
    folder = open_path(f"{bucket}/run")
    spec, _ = _claim_folder(a_submission(), folder, package())
    assert spec.plugins == ("inputs/mine.py", "installed")
    assert read_bytes(folder / "inputs" / "mine.py") == b"X = 1\n"
    assert _recorded_spec(folder, tmp_path) == spec


def test_a_folder_of_another_job_is_refused_and_not_touched(tmp_path, package):
    folder = tmp_path / "run"
    _claim_folder(a_submission(owner="ann"), folder, package())
    before = (folder / "inputs" / "task.csv").read_bytes()
    with pytest.raises(InputError, match=r"belongs to demo-3f2a of ann: resume it with 'prunepeft resume demo-3f2a'"):
        _claim_folder(a_submission(job="demo-9c01", owner="bob"), folder, package(text="text,label\ny,2\n"))
    assert (folder / "inputs" / "task.csv").read_bytes() == before


def test_a_run_that_nobody_submitted_stays_its_owners(tmp_path, package):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "spec.yaml").write_text("budget: 1%\n")
    with pytest.raises(InputError, match="contains another run"):
        _claim_folder(a_submission(), folder, package())
    assert RunOwner.read(folder) is None


def test_a_study_may_be_submitted_again_to_its_folder_with_the_same_files(tmp_path, package):
    folder = tmp_path / "run"
    _claim_folder(a_submission(kind="study"), folder, package(STUDY))
    # not before it has begun
    with pytest.raises(InputError, match="belongs to demo-3f2a"):
        _claim_folder(a_submission(job="demo-9c01", kind="study"), folder, package(STUDY))
    (folder / "spec.yaml").write_text("methods: [prunepeft]\n")
    _claim_folder(a_submission(job="demo-9c01", kind="study"), folder, package(STUDY))
    assert RunOwner.read(folder).job == "demo-3f2a"
    with pytest.raises(InputError, match=r"task.csv already exists and differs"):
        _claim_folder(a_submission(job="demo-9c01", kind="study"), folder, package(STUDY, "text,label\ny,2\n"))


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_run_that_is_refused_leaves_the_folder_as_it_was(tmp_path, package, bucket, where):
    folder = tmp_path / "run" if where == "disk" else open_path(f"{bucket}/run")
    here = package(SEARCH | {"plugins": []})
    with pytest.raises(InputError, match=r"task\.csv"):  # a file of one row has no two classes
        _run(a_submission(output=str(folder)), folder, here, lambda event: None, lambda progress: None)
    assert names(folder) == []
    if where == "disk":
        assert not folder.exists()


def test_files_of_somebody_else_are_neither_taken_nor_removed(tmp_path, package):
    folder = tmp_path / "exp"
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs" / "train.csv").write_text("mine")
    with pytest.raises(InputError, match="contains a folder inputs not created by a search job"):
        _run(a_submission(output=str(folder)), folder, package(), lambda event: None, lambda progress: None)
    assert (folder / "inputs" / "train.csv").read_text() == "mine"
    assert names(folder) == ["inputs"]


def test_a_study_whose_addition_is_refused_keeps_all_that_it_had(tmp_path, package):
    folder = tmp_path / "run"
    _claim_folder(a_submission(kind="study"), folder, package(STUDY))
    (folder / "spec.yaml").write_text(yaml.safe_dump(STUDY | {"plugins": [], "tasks": ["packaged:movie"]}))
    (tmp_path / "home" / "new.csv").write_text("text,label\nz,1\n")
    changed = package(STUDY | {"plugins": [], "budget": "2%"})
    (changed / "inputs" / "new.csv").write_text("new")
    with pytest.raises(InputError):
        _run(a_submission(kind="study"), folder, changed, lambda event: None, lambda progress: None)
    assert names(folder) == ["inputs", "spec.yaml", "submission.json"]
    assert names(folder / "inputs") == ["mine.py", "task.csv"]


def test_a_folder_without_run_or_owner_is_told(tmp_path):
    with pytest.raises(InputError, match=r"contains no run: expected a folder with spec.yaml"):
        _recorded_spec(tmp_path, tmp_path)


def test_what_is_taken_is_free_for_the_run_itself(tmp_path, package):
    folder = tmp_path / "run"
    spec, _ = _claim_folder(a_submission(), folder, package())
    assert RunFolder.create(folder, spec).spec == spec
