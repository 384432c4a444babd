"""PrunePEFT-Ray: find the best PEFT architecture for a model, a task and a budget.

The public API. Everything is loaded when first used, so importing this package is quick.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
