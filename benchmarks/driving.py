"""The cost of a study's driver: CPU time of its process per job, over 1,000 jobs that only store a result.

The peer is a bare Ray Tune run with as many empty trials, in reused actors and without loggers.
"""

import dataclasses
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, compare
from prunepeft_ray.cluster.capacity import job_unit
from prunepeft_ray.cluster.session import ray_cluster
from prunepeft_ray.cluster.sharing.claim import WholeCluster
from prunepeft_ray.execution.study.dispatcher import StudyRun
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.jobs import Cost, Epoch, TrainResult
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.signals import StopRequest
from prunepeft_ray.study import StudySpec

JOBS = 1000


def main(jobs: int = JOBS) -> None:
    table = Table("driver", "jobs", "CPU ms per job", "wall ms per job", title="a study's driver, trivial jobs")
    for name, (done, *spent) in measure(jobs).items():
        table.add_row(name, str(done), *(f"{value:.1f}" for value in spent))
    Console().print(table)


def figures(jobs: int = 300) -> list[Figure]:
    """Measure the CPU time of the driver."""
    found = measure(jobs)
    theirs, ours = ([found[name][1]] for name in ("peer: bare Ray Tune", "study"))
    return [compare("driver, per trivial job", "bare Ray Tune", "ms", theirs, ours, 2.0)]


def measure(jobs: int) -> dict[str, tuple[int, float, float]]:
    """Number of jobs, and CPU and wall-clock milliseconds per job, of the peer and of a study."""
    found = {}
    with ray_cluster(None, 2), tempfile.TemporaryDirectory() as folder:
        for name, run in (("peer: bare Ray Tune", bare_tune), ("study", study)):
            cpu, wall = time.process_time(), time.monotonic()
            done = run(jobs, Path(folder))
            found[name] = done, 1000 * (time.process_time() - cpu) / done, 1000 * (time.monotonic() - wall) / done
    return found


def study(jobs: int, root: Path) -> int:
    """Run a real study of one random search whose workers store results immediately."""
    from prunepeft_ray.execution.study import tune as tune_study

    spec = StudySpec(
        methods=("random-search",),
        tasks=({"name": "packaged:movie", "train_size": 50, "dev_size": 20, "test_size": 20},),
        models=("packaged:minilm",),
        seeds=(0,),
        budget="2%",
        space={"kinds": ("PA", "PF", "PT", "SA")},
        limits={"evaluations": jobs - 1},
    )
    settings, data = plan_study(spec, lambda event: None)
    folder = RunFolder.create(root / "study", spec)
    store = ResultsStore(folder.results)
    run = StudyRun([StudySearch(setting, store) for setting in settings], lambda search: None)
    tune_study.JobTrial = trivial_trial()
    share, unit = WholeCluster(4), job_unit(spec.execution, use_gpu=False)
    tune_study.run_study(folder, spec, run, data, lambda event: None, lambda progress: None, StopRequest(), share, unit)
    run.close()
    return len(store.read("jobs"))


def trivial_trial() -> Any:
    from ray import tune

    class TrivialTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], place: Any = None, **_others: Any) -> None:
            self.assignment, self.folder = config["assignment"], Path(place.folder)

        def step(self) -> dict[str, Any]:
            now, metrics = datetime.now(UTC), {"accuracy": 0.5, "loss": 1.0}
            result = TrainResult(1, 1, (Epoch(1, 1.0, metrics, 0.0),), 1, metrics, cost=Cost(train_examples=1))
            ResultsStore(self.folder / "results").commit(
                self.assignment.context, self.assignment.work, dataclasses.replace(result), now, now
            )
            return {"done": True, "outcome": "finished"}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.assignment = new_config["assignment"]
            return True

    return TrivialTrial


def bare_tune(jobs: int, _root: Path) -> int:
    from ray import tune
    from ray.tune.search import Searcher

    from prunepeft_ray.execution.study.tune import configure_tune
    from prunepeft_ray.execution.supervise import nowhere

    configure_tune(2)

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            pass

        def step(self) -> dict[str, Any]:
            return {"done": True}

        def reset_config(self, _new_config: dict[str, Any]) -> bool:
            return True

    class Numbers(Searcher):
        left = jobs

        def suggest(self, _trial_id: str) -> Any:
            self.left -= 1
            return {"number": self.left} if self.left >= 0 else Searcher.FINISHED

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    tune.Tuner(
        tune.with_resources(Nothing, {"CPU": 1}),
        tune_config=tune.TuneConfig(search_alg=Numbers(), num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path="ray",
            storage_filesystem=nowhere(),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return jobs


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
