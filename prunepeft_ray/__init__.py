"""PrunePEFT-Ray: find the best PEFT architecture for a model, a task and a budget.

This is the public API. Its members are loaded on first use, so importing this package is fast.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
