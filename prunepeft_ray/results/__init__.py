"""What a run leaves behind: the run's folder and the Parquet results store."""

from prunepeft_ray.results.attempts import Attempt, attempt
from prunepeft_ray.results.environment import hardware, versions
from prunepeft_ray.results.files import copy_files, locked, write_whole
from prunepeft_ray.results.parts import Damage
from prunepeft_ray.results.run import RunFolder
from prunepeft_ray.results.schema import KEYED_BY_JOB, READABLE, SCHEMA_VERSION, TABLES, Column, columns_markdown
from prunepeft_ray.results.store import ResultsStore, RunContext, decision_files
from prunepeft_ray.results.studies import Request, SearchOutcome, request_key, search_key

__all__ = [
    "KEYED_BY_JOB",
    "READABLE",
    "SCHEMA_VERSION",
    "TABLES",
    "Attempt",
    "Column",
    "Damage",
    "Request",
    "ResultsStore",
    "RunContext",
    "RunFolder",
    "SearchOutcome",
    "attempt",
    "columns_markdown",
    "copy_files",
    "decision_files",
    "hardware",
    "locked",
    "request_key",
    "search_key",
    "versions",
    "write_whole",
]
