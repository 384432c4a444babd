"""What a run leaves behind: its folder and the Parquet results store."""

from prunepeft_ray.results.environment import hardware, versions
from prunepeft_ray.results.parquet_file import Damage
from prunepeft_ray.results.pool import JobPool, PooledJob, find_pool
from prunepeft_ray.results.run import RunFolder
from prunepeft_ray.results.schema import KEYED_BY_JOB, READABLE, SCHEMA_VERSION, TABLES, Column, columns_markdown
from prunepeft_ray.results.store import ResultsStore, RunContext, decision_files
from prunepeft_ray.results.study_records import Request, SearchOutcome, request_key, search_key
from prunepeft_ray.results.writer_lease import Attempt, attempt

__all__ = [
    "KEYED_BY_JOB",
    "READABLE",
    "SCHEMA_VERSION",
    "TABLES",
    "Attempt",
    "Column",
    "Damage",
    "JobPool",
    "PooledJob",
    "Request",
    "ResultsStore",
    "RunContext",
    "RunFolder",
    "SearchOutcome",
    "attempt",
    "columns_markdown",
    "decision_files",
    "find_pool",
    "hardware",
    "request_key",
    "search_key",
    "versions",
]
