"""Benchmarks of speed and memory, each against a named peer, as ratios within one run."""

import os

# a job that is read from the pool of finished jobs takes no time
os.environ["PRUNEPEFT_POOL"] = "off"
