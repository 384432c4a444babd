"""Opening what a run or a study has left behind, as pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import LoneSearch, Tables
from prunepeft_ray.analysis.comparison import Comparison, Search, compare, planned_searches
from prunepeft_ray.analysis.method_rows import BASELINE
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import RunError, unknown
from prunepeft_ray.results import KEYED_BY_JOB, TABLES, Damage, ResultsStore, RunFolder
from prunepeft_ray.study import StudySpec
from prunepeft_ray.text import readable

if TYPE_CHECKING:
    import pandas as pd


class Results(Mapping[str, "pd.DataFrame"]):
    """Everything that a search or a study has left behind so far, by the name of a table or a derived frame.

    Frames are read or computed when first asked for, and kept; treat them as read-only.

    Args:
        run: The run's folder.
        label: What to call it among several.
        derived: How each derived frame is computed, by its name.
        strict: Whether a damaged file is an error, rather than left out.
    """

    def __init__(
        self,
        run: RunFolder,
        label: str,
        derived: Mapping[str, Callable[[Results], pd.DataFrame]],
        *,
        strict: bool = False,
    ) -> None:
        self.run = run
        self._strict = strict
        self._derived = derived
        self.label = readable(label)
        self.folder = run.results
        self._store = ResultsStore(run.results)
        self._frames: dict[str, pd.DataFrame] = {}
        self._damaged: dict[Path, Damage] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._frames:
            if name not in TABLES and name not in self._derived:
                raise unknown("table", name, list(self))
            self._frames[name] = self._table(name) if name in TABLES else self._derived[name](self)
        return self._frames[name]

    def _table(self, name: str) -> pd.DataFrame:
        leave_out = None if self._strict else lambda damage: self._damaged.setdefault(damage.file, damage)
        found = self._store.read(name, leave_out)
        if name in KEYED_BY_JOB and name != "jobs":
            jobs = self["jobs"]
            if any(damage.file.parent.name == "jobs" for damage in self.damaged):
                # a job whose own row is damaged is not there
                return found[found.job_id.isin(jobs.job_id)].reset_index(drop=True)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter((*TABLES, *self._derived))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """Files that could not be read and were left out of the tables that have been read so far."""
        return tuple(self._damaged[file] for file in sorted(self._damaged))

    def compact(self) -> None:
        """Compact what a killed run has left in very many files before they are read, if anything can be written.

        Raises:
            InputError: If a file comes from a version that cannot be read.
        """
        with suppress(RunError, OSError):
            self._store.compact()

    def read(self, table: str) -> pd.DataFrame:
        """Return a table or a derived frame, as ``results[table]`` does."""
        return self[table]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @cached_property
    def comparison(self) -> Comparison:
        """The methods compared by what is there so far; searches that have not begun count as missing."""
        return compare(self["charges"], self.as_study.read("searches"), self.planned)

    @property
    def planned(self) -> list[Search]:
        """All searches that there are to be; a search by itself is one."""
        spec = self.spec
        if isinstance(spec, StudySpec):
            return planned_searches(spec)
        return [(spec.model, spec.task.name, BASELINE, spec.seed)]

    @property
    def method_names(self) -> dict[str, str]:
        """What methods are registered as, by their labels in the study."""
        spec = self.spec
        if isinstance(spec, StudySpec):
            return {method.label: method.name for method in spec.methods}
        return {BASELINE: BASELINE}

    @property
    def as_study(self) -> Tables:
        """The tables of a study; of a search by itself those of a study of one."""
        return self if self.is_study else LoneSearch(self)

    @property
    def is_study(self) -> bool:
        """Whether it is a comparison of methods rather than one search."""
        return self.run.is_study

    @cached_property
    def spec(self) -> SearchSpec | StudySpec:
        """The resolved spec."""
        return self.run.study if self.is_study else self.run.spec
