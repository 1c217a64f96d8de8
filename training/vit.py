"""A vision transformer of which every attention head is as wide as a token, registered with timm as `vit_wide_patch16`.

timm's and PyTorch's attention share a token's width among the heads; Keras' `MultiHeadAttention` gives `key_dim`
dimensions to each. So a model written with `num_heads=6, key_dim=384` for tokens of 384 has six times the attention of
any timm model of that width. This module must not know of settings or data; importing it is what makes timm know the
model.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

__all__ = ["WideAttention", "vit_wide_patch16"]

default_cfgs = generate_default_cfgs(
    {
        "vit_wide_patch16.untrained": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "fixed_input_size": True,  # it has a weight a position: whoever makes it says the pictures' size
            "mean": IMAGENET_INCEPTION_MEAN,
            "std": IMAGENET_INCEPTION_STD,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


class WideAttention(nn.Module):
    """Self-attention whose heads have a width of their own: softmax(Q Kᵀ / sqrt(head_dim)) V (Vaswani et al. 2017).

    It has the parameters of Keras' `MultiHeadAttention(num_heads, key_dim=head_dim)`, biases included.

    Args:
        dim: width of a token.
        num_heads: heads.
        head_dim: width of a head's queries, keys and values.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim)
        self.proj = nn.Linear(num_heads * head_dim, dim)

    def forward(
        self, tokens: torch.Tensor, attn_mask: torch.Tensor | None = None, is_causal: bool = False
    ) -> torch.Tensor:
        """Float (n, length, dim) to the same shape; mask and causality as torch's function takes them."""
        rows, length, _ = tokens.shape
        parts = self.qkv(tokens).reshape(rows, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, is_causal=is_causal)
        return self.proj(mixed.transpose(1, 2).reshape(rows, length, self.num_heads * self.head_dim))


class _WideBlock(Block):
    """timm's block, with heads as wide as the tokens. timm's own attention is made first and thrown away."""

    def __init__(self, dim: int, num_heads: int, **others: Any) -> None:
        super().__init__(dim, num_heads, **others)
        self.attn = WideAttention(dim, num_heads, head_dim=dim)


@register_model
def vit_wide_patch16(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Patches of 16 pixels, tokens of 384, 6 blocks with 6 heads of 384 each; a class token, learned positions.

    Args:
        pretrained: there are no weights for it.
        kwargs: timm's, of a `VisionTransformer`: img_size, num_classes, drop_rate, drop_path_rate.
    """
    shape: dict[str, Any] = {"patch_size": 16, "embed_dim": 384, "depth": 6, "num_heads": 6, "block_fn": _WideBlock}
    return build_model_with_cfg(VisionTransformer, "vit_wide_patch16", pretrained, **{**shape, **kwargs})
