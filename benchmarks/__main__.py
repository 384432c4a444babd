"""`make bench`: run every benchmark and print its table."""

from benchmarks import checkpointing, collecting, driving, proposals, reading, recovery, sharing, submitting, warmup

for benchmark in (collecting, sharing, checkpointing, warmup, recovery, driving, proposals, reading, submitting):
    benchmark.main()
