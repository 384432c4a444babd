"""`make bench`: run every benchmark and print its table."""

from benchmarks import collecting, sharing

for benchmark in (collecting, sharing):
    benchmark.main()
