"""PrunePEFT's decisions: warm-up, hybrid probability and pruning rounds. No torch, no Ray, no files."""

from prunepeft_ray.pruning.effectiveness import effectiveness
from prunepeft_ray.pruning.frequency import frequency
from prunepeft_ray.pruning.method import PrunePEFT
from prunepeft_ray.pruning.profiles import PROFILES, Profile, RoundScores
from prunepeft_ray.pruning.rounds import slots_per_round, slots_to_remove
from prunepeft_ray.pruning.scores import (
    Compare,
    Halves,
    distinguished,
    most_prunable,
    prunability,
    read_halves,
    read_thetas,
    reliability,
    reliable_scores,
    softmax,
    standardise,
    tied_for_last,
)
from prunepeft_ray.pruning.steps import GeneratorMethod, Steps, make_job
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.pruning.warmup import SELECTORS, Selector, WarmUp

__all__ = [
    "PROFILES",
    "SELECTORS",
    "Compare",
    "GeneratorMethod",
    "Halves",
    "Profile",
    "PrunePEFT",
    "RoundScores",
    "Selector",
    "Steps",
    "Strategy",
    "WarmUp",
    "distinguished",
    "effectiveness",
    "frequency",
    "make_job",
    "most_prunable",
    "prunability",
    "read_halves",
    "read_thetas",
    "reliability",
    "reliable_scores",
    "slots_per_round",
    "slots_to_remove",
    "softmax",
    "standardise",
    "tied_for_last",
]
