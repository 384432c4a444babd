"""Logging runs to experiment trackers; everything logged is read from the results store."""

from prunepeft_ray.tracking.follower import track, tracking
from prunepeft_ray.tracking.records import Job, Outcome, Records, Search, Step
from prunepeft_ray.tracking.tracker import TRACKERS, Known, Place, Tracker, TrackerInfo

__all__ = [
    "TRACKERS",
    "Job",
    "Known",
    "Outcome",
    "Place",
    "Records",
    "Search",
    "Step",
    "Tracker",
    "TrackerInfo",
    "track",
    "tracking",
]
