"""The service: submit, watch, stop, resume and fetch search jobs of several people on one Ray cluster.

It has no server of its own: the state of a job is kept by Ray's job server and in the run's folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.lazy import lazy_attributes

if TYPE_CHECKING:
    from prunepeft_ray.service.client import Client
    from prunepeft_ray.service.search_job import SearchJob
    from prunepeft_ray.service.status import Status
    from prunepeft_ray.service.submission import Submission

__all__ = ["Client", "SearchJob", "Status", "Submission"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "prunepeft_ray.service.client": ("Client",),
        "prunepeft_ray.service.search_job": ("SearchJob",),
        "prunepeft_ray.service.status": ("Status",),
        "prunepeft_ray.service.submission": ("Submission",),
    },
)
