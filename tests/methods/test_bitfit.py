"""BitFit, against the same backbone whose own biases train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import BackboneError

LENGTHS = [9, 4]
NONE = ("modernbert", "eurobert", "llama", "mistral", "qwen3", "t5", "mt5")
"""Families without biases, or none in the tiny model."""


def loss(backbone: Any, prompts: Prompts) -> Tensor:
    states = backbone(tiny.text_batch(LENGTHS), prompts)
    draws = torch.Generator().manual_seed(1)
    return (states * torch.randn(states.shape, generator=draws)).sum()


def biases(backbone: Any) -> dict[str, nn.Parameter]:
    """Every bias by the name of its module, as a reader of the paper would find them."""
    return {
        injection_of(backbone.model.get_submodule(name.removesuffix(".bias")))[1]: parameter
        for name, parameter in backbone.model.named_parameters()
        if name.endswith(".bias")
    }


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in NONE])
def test_differences_are_as_trained_biases(family: str, folder_of: Callable[..., Any]) -> None:
    """Equal gradients, and equal states after a step, with prompts before the text."""
    backbone = tiny.load(folder_of(family))
    own = biases(backbone)
    method = tiny.make_method(backbone, "bitfit", None)
    assert set(method.names) == set(own)
    keys_values = tiny.random_prompts(backbone, 3).keys_values
    loss(backbone, Prompts(keys_values=keys_values, edits=method().edits)).backward()
    for bias in own.values():
        bias.requires_grad_()
    plain = loss(backbone, Prompts(keys_values=keys_values))
    plain.backward()
    scale = max(float(bias.grad.abs().max()) for bias in own.values())
    for name, difference in zip(method.names, method.differences, strict=True):
        gradient = own[name].grad
        torch.testing.assert_close(difference.grad, gradient, atol=1e-5 * scale, rtol=1e-3)
        assert difference.grad is not None
    with torch.no_grad():
        for difference in method.differences:
            difference -= 0.1 * difference.grad / scale
        edited = loss(backbone, Prompts(keys_values=keys_values, edits=method().edits))
        for name, difference in zip(method.names, method.differences, strict=True):
            own[name] += difference
        torch.testing.assert_close(
            edited, loss(backbone, Prompts(keys_values=keys_values)), atol=1e-3, rtol=1e-4
        )
        assert (edited - plain).abs() > 1e-3


@pytest.mark.parametrize("family", NONE)
def test_a_backbone_without_biases_is_refused(family: str, backbone_of: Callable[..., Any]) -> None:
    with pytest.raises(BackboneError, match="bitfit trains biases") as caught:
        tiny.make_method(backbone_of(family), "bitfit", None)
    assert "houlsby_adapter" in str(caught.value)


def test_all_biases_count(backbone_of: Callable[..., Any]) -> None:
    method = tiny.make_method(backbone_of("bert"), "bitfit", None)
    layer = 4 * 32 + 48 + 32 + 2 * 32  # attention's four, the feed-forward part's two, two norms
    assert method.counts() == {"prompt": 0, "reparam": 0, "adapter": 3 * layer + 32}
