"""The transformer with wide heads: its attention against the plain formula, its parameters, what timm knows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from torch import nn

from training.vit import WideAttention


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def formula(layer: WideAttention, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """softmax(Q Kᵀ / sqrt(width)) V of every head by itself, from the layer's weights."""
    width, heads = layer.head_dim, layer.num_heads
    query, key, value = (tokens @ part.T + bias for part, bias in zip(*parts(layer), strict=True))
    mixed = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = query[..., own] @ key[..., own].transpose(1, 2) / math.sqrt(width)
        mixed.append(torch.softmax(scores + mask, dim=-1) @ value[..., own])
    return torch.cat(mixed, dim=-1) @ layer.proj.weight.T + layer.proj.bias


def parts(layer: WideAttention) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Weights and biases of queries, keys and values."""
    return layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dim", "heads", "head_dim"), [(384, 6, 384), (16, 4, 16), (16, 3, 5)])
def test_attention_is_the_plain_formula(dim: int, heads: int, head_dim: int, causal: bool) -> None:
    torch.manual_seed(0)
    layer = WideAttention(dim, heads, head_dim).double()
    tokens = 3 * torch.randn(2, 11, dim, dtype=torch.float64)
    mask = torch.full((11, 11), -math.inf, dtype=torch.float64).triu(1) if causal else torch.zeros(11, 11)
    wanted = formula(layer, tokens, mask)
    found = layer(tokens, is_causal=causal)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10)
    assert found.shape == tokens.shape
    torch.testing.assert_close(layer(tokens, attn_mask=mask.double()), found)


def test_the_parameters_are_those_of_keras_layers_part_by_part() -> None:
    """Each number is what Keras' layer of that kind has (`python -m benchmarks.keras_parameters`)."""
    model: Any = timm.create_model("vit_wide_patch16", num_classes=0)
    assert count(model.patch_embed) == 295_296
    assert model.pos_embed.numel() == 75_648
    assert model.cls_token.numel() == 384
    assert len(model.blocks) == 6
    for block in model.blocks:
        assert count(block.attn) == 3_546_240
        assert count(block.norm1) + count(block.norm2) == 1_536
        assert count(block.mlp) == 1_181_568
    assert count(model.norm) == 768
    assert count(model) == 28_748_160


def test_timm_knows_the_model_and_that_its_size_is_fixed() -> None:
    assert timm.is_model("vit_wide_patch16")
    config = timm.get_pretrained_cfg("vit_wide_patch16", allow_unregistered=False)
    assert config is not None
    assert config.fixed_input_size
    assert not config.has_weights
    assert "vit_wide_patch16" not in timm.list_models(pretrained=True)


@pytest.mark.parametrize("size", [32, 64])
def test_the_positions_follow_the_size(size: int) -> None:
    model: Any = timm.create_model("vit_wide_patch16", num_classes=2, img_size=size)
    assert model.pos_embed.shape == (1, (size // 16) ** 2 + 1, 384)
    assert model(torch.zeros(3, 3, size, size)).shape == (3, 2)
    with pytest.raises(AssertionError, match="height"):
        model(torch.zeros(3, 3, size + 16, size + 16))


def test_the_class_token_alone_reaches_the_head() -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("vit_wide_patch16", num_classes=0, img_size=32).eval()
    tokens = model.forward_features(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(model.forward_head(tokens), tokens[:, 0])
