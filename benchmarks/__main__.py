"""`make bench`: run every benchmark and print its table."""

from benchmarks import collecting

for benchmark in (collecting,):
    benchmark.main()
