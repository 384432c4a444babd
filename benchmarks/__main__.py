"""`make bench`: run every benchmark and print its table."""

from benchmarks import checkpointing, collecting, driving, proposals, recovery, sharing, warmup

for benchmark in (collecting, sharing, checkpointing, warmup, recovery, driving, proposals):
    benchmark.main()
