"""Tasks: GLUE, packaged data and local files; splits, subsets and metrics."""

from prunepeft_ray.tasks import glue, packaged  # noqa: F401  (imported to register their tasks)
from prunepeft_ray.tasks.base import NO_CLASS, TASKS, Split, TaskData, TaskSource, Tell, log_line
from prunepeft_ray.tasks.files import read_examples
from prunepeft_ray.tasks.loading import load_task, task_names
from prunepeft_ray.tasks.metrics import METRICS, Metric, compute_metrics
from prunepeft_ray.tasks.splits import stratified_split, stratified_subset
from prunepeft_ray.tasks.tables import FileFormat

__all__ = [
    "METRICS",
    "NO_CLASS",
    "TASKS",
    "FileFormat",
    "Metric",
    "Split",
    "TaskData",
    "TaskSource",
    "Tell",
    "compute_metrics",
    "load_task",
    "log_line",
    "read_examples",
    "stratified_split",
    "stratified_subset",
    "task_names",
]
