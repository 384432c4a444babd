"""`make bench`: run every benchmark and print its table."""

from benchmarks import checkpointing, collecting, proposals, recovery, sharing, warmup

for benchmark in (collecting, sharing, checkpointing, warmup, recovery, proposals):
    benchmark.main()
