"""The service: submit, watch, stop, resume and fetch search jobs of several people on one Ray cluster.

It has no server of its own: the state of a job is kept by Ray's job server and in the run's folder.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
