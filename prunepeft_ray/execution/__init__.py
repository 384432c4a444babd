"""Executing searches: jobs in a group of processes, the Ray Train worker group, and its news. Ray is only here.

Everything is loaded when first used: not every process of a search needs torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
