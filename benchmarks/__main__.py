"""`make bench`: run every benchmark and print its table."""

from benchmarks import (
    checkpointing,
    collecting,
    driving,
    frozen_prefix,
    proposals,
    reading,
    recovery,
    sharing,
    submitting,
    warmup,
)

for benchmark in (
    collecting,
    frozen_prefix,
    sharing,
    checkpointing,
    warmup,
    recovery,
    driving,
    proposals,
    reading,
    submitting,
):
    benchmark.main()
