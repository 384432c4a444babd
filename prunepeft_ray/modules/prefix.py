"""Prefix tuning: trained keys and values that every token of a layer attends to (Li and Liang 2021).

While they train, the vectors are made by a small network, as in AutoPEFT (Zhou et al. 2024), which is steadier than to
train them directly. The network is neither counted nor saved: what is left of it are the vectors. Like AdaLoRA it keeps
its own start whatever ``modules.init`` says.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules.module_type import MODULE_TYPES, ModuleType
from prunepeft_ray.modules.reparametrisation import Reparametrisation

NAME = "prunepeft_prefix"
"""Name of attention with a prefix among transformers' implementations of attention."""
HIDDEN = 800
"""Hidden width of the network that makes keys and values; AutoPEFT's."""


class Prefix(nn.Module):
    """Keys and values before those of the tokens.

    With a share s of a token's attention on the prefix, the heads return (1 - s) * what they would without it, plus
    s * the prefix's own mean value (He et al. 2022, Eq. 7). The difference to what they would return without it is the
    prefix's update. The share is never zero, so a prefix is never exactly the identity: small vectors draw attention
    away from the tokens without adding anything, which training makes good.

    Attention is computed in the open, since fused kernels do not tell the share; that takes memory for
    heads * tokens * (size + tokens) weights.

    Args:
        width: Width of the keys and values of all key heads together.
        size: Number of vectors; all zero until they are set.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(size, width))
        self.values = nn.Parameter(torch.zeros(size, width))
        self.update = nn.Identity()

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        visible: torch.Tensor | None,
        scaling: float,
        dropout: float = 0.0,
    ) -> torch.Tensor:
        """Attend to the prefix and the tokens.

        Args:
            query: Shape (batch, heads, tokens, head width).
            key: Keys of the tokens, shape (batch, key heads, keys, head width); several heads may share a key head.
            value: Their values, of the same shape.
            visible: Which tokens may be seen, of a shape that fits (batch, heads, tokens, keys): true or false, or what
                to add to their scores. The prefix is always seen. None if all are.
            scaling: What scores are multiplied by.
            dropout: Dropout on the attention's weights.

        Returns:
            What the heads return, shape (batch, tokens, heads, head width).
        """
        heads, size = query.shape[1], len(self.keys)
        scores = query @ _per_head(key, heads).mT * scaling
        if visible is not None:
            scores = _hide(scores, visible[..., : key.shape[2]])
        own_scores = query @ _per_head(self._by_key_head(self.keys, key), heads).mT * scaling
        weights = torch.softmax(torch.cat([own_scores, scores], dim=-1), dim=-1)
        # before dropout, and summed instead of 1 - s, which would lose all digits as s nears 1
        rest_share = weights[..., size:].sum(dim=-1, keepdim=True)
        weights = F.dropout(weights, dropout)
        own = weights[..., :size] @ _per_head(self._by_key_head(self.values, key), heads)
        rest = weights[..., size:] @ _per_head(value, heads)
        # what the heads would return without a prefix, under the same dropout; 0 where no token may be seen
        without = rest / rest_share.clamp(min=torch.finfo(rest_share.dtype).tiny)
        # detached, so that all gradients run through the update, and the sum has those of own + rest
        without = without.detach().transpose(1, 2).flatten(2)
        update = (own + rest).transpose(1, 2).flatten(2) - without
        attended: torch.Tensor = (without + self.update(update)).unflatten(-1, (heads, -1))
        return attended

    @staticmethod
    def _by_key_head(vectors: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Cut vectors of shape (size, width) into (1, key heads, size, head width)."""
        return vectors.view(len(vectors), key.shape[1], key.shape[3]).transpose(0, 1)[None]


class PrefixNetwork(nn.Module):
    """Makes a prefix: an embedding of every vector, a hidden layer with tanh, and its keys and values.

    It starts as AdapterHub's, which AutoPEFT uses: embeddings from a standard normal distribution, layers by torch's
    default. Keys and values then have a deviation of about 0.3 at any width.

    Args:
        width: Width of the keys and values of all key heads together.
        size: Number of vectors.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(size, width))
        self.inner = nn.Linear(width, HIDDEN)
        self.outer = nn.Linear(HIDDEN, 2 * width)

    def forward(self) -> tuple[torch.Tensor, ...]:
        """Return keys and values, each of shape (size, width)."""
        made: torch.Tensor = self.outer(torch.tanh(self.inner(self.embedding)))
        return made.chunk(2, dim=-1)


def _per_head(vectors: torch.Tensor, heads: int) -> torch.Tensor:
    """Repeat what heads share: (batch, key heads, n, head width) to (batch, heads, n, head width)."""
    return vectors.repeat_interleave(heads // vectors.shape[1], dim=1)


def _hide(scores: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(~visible, -torch.inf) if visible.dtype == torch.bool else scores + visible


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    prefix: Prefix,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **_others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention with a prefix, as transformers calls its implementations of attention.

    Without a mask, a causal module still means that no token sees a later one.
    """
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    if attention_mask is None and causal:
        tokens, keys = query.shape[2], key.shape[2]
        attention_mask = torch.ones(tokens, keys, dtype=torch.bool, device=query.device).tril(keys - tokens)
    return prefix(query, key, value, attention_mask, scaling, dropout), None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


class PrefixedAttention(nn.Module):
    """A self-attention module of transformers whose heads also attend to a prefix.

    Projections and rotary embedding stay the module's own. The prefix's keys are not rotated, so a token's position by
    itself counts: texts padded on the left need position ids that leave the padding out.

    Args:
        base_layer: The attention module.
        prefix: The prefix.
    """

    def __init__(self, base_layer: nn.Module, prefix: Prefix) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.prefix = prefix
        # the model makes its masks by its own configuration, which stays as it is
        config: Any = base_layer.config
        self._config = copy.copy(config)
        self._config._attn_implementation = NAME

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the attention module with :func:`attend` for its attention; it passes the prefix on to it."""
        own = self.base_layer.config
        self.base_layer.config = self._config
        try:
            return self.base_layer(*args, prefix=self.prefix, **kwargs)
        finally:
            self.base_layer.config = own


def _wrap(base: nn.Module, widths: tuple[int, int], size: int, _settings: ModulesConfig) -> nn.Module:
    return PrefixedAttention(base, Prefix(widths[0], size))


def _reparametrise(layer: nn.Module) -> Reparametrisation:
    assert isinstance(layer, PrefixedAttention)
    keys, values = layer.prefix.keys, layer.prefix.values
    size, width = keys.shape
    return Reparametrisation(PrefixNetwork(width, size), (keys, values))


def _update(layer: nn.Module) -> tuple[nn.Module, float]:
    assert isinstance(layer, PrefixedAttention)
    return layer.prefix.update, 1.0


MODULE_TYPES.register(
    "prefix",
    ModuleType(
        kind="PT",
        label="prefix",
        sites=("attention",),
        cost=lambda _base, widths: ModuleCost(2 * widths[0]),
        wrap=_wrap,
        update=_update,
        reparametrise=_reparametrise,
    ),
)
