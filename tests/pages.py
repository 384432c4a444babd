"""Studies and runs made by hand, as folders that a report can be made of, and what a page of them holds."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from comparison_fakes import MODEL, TASK, StudyFake

from prunepeft_ray.analysis import Results, open_results
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec

METHODS = ("prunepeft", "random-search", "uniform-lora")
OTHER = "packaged:trec"


def make_study(path: Path, *, methods: tuple[str, ...] = METHODS, whole: bool = True) -> Results:
    """A study of three methods on two tasks with two seeds; not ``whole``: without the last search."""
    spec = StudySpec(methods=methods, tasks=(TASK, OTHER), models=(MODEL,), seeds=(0, 1), budget="1%")
    RunFolder.create(path, spec)
    study = StudyFake(path)
    cells = [cell for cell in spec.cells() if whole or cell != list(spec.cells())[-1]]
    for number, cell in enumerate(cells):
        name, task, seed = cell.method.label, cell.task.name, cell.seed
        for turn in range(3 if name == "random-search" else 0):
            job = study.job("candidate", metrics={"accuracy": 0.6 + 0.05 * turn}, task=task)
            study.ask(name, seed, job, "candidate", task=task)
        tests = [0.7 + 0.01 * number, 0.72 + 0.01 * number]
        study.search(name, seed, tests, task=task, rounds=2 * (name == "prunepeft"))
    return open_results(path)


class Page(HTMLParser):
    """What a page refers to, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "srcset", "action", "data") and value is not None:
                self.references.append(value)
            if name == "id" and value is not None:
                self.ids.append(value)
