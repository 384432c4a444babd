"""Execution of searches and studies on Ray: training jobs, worker groups, trials, checkpoints and events.

Everything is imported on first use, since not every process of a search needs torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
