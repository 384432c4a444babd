"""Benchmarks of speed and memory, each against a named peer, as ratios within one run."""
