"""The paper's initialisation of modules."""

from __future__ import annotations

import torch


def paper_initialisation(down: torch.Tensor, up: torch.Tensor) -> None:
    """Draw both projections from normal distributions (paper, Eqs. 4-5).

    The standard deviation of each is 1/sqrt(its input width). The module does not start as the identity.

    Args:
        down: Weight of the down-projection, shape (size, input width).
        up: Weight of the up-projection, shape (output width, size).
    """
    with torch.no_grad():
        down.normal_(0.0, down.shape[1] ** -0.5)
        up.normal_(0.0, up.shape[1] ** -0.5)
