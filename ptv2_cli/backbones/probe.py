"""Find a model's sites, and check with a real forward pass that prompts work at each."""

from __future__ import annotations

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.injection import Call
from ptv2_cli.backbones.sites import KeysValues, PlainBatch, Prompts, Site, Stack
from ptv2_cli.errors import BackboneError, out_of_memory

LENGTH = 2
"""Length of the probe's prompt and of its text."""


def find_sites(backbone: Backbone) -> tuple[Site, ...]:
    """The attention calls of one forward pass of two tokens, in order."""
    with torch.no_grad(), backbone.injection.recording() as calls:
        backbone(_text(backbone))
    sites: list[Site] = []
    for call in calls:
        stack = _stack(call, backbone.shape.family.two_stacks)
        sites.append(
            Site(
                call.module,
                call=sum(site.module == call.module for site in sites),
                heads=call.key.shape[1],
                head_size=call.key.shape[3],
                causal=call.causal,
                stack=stack,
                layer=sum(site.stack == stack for site in sites),
            )
        )
    return tuple(sites)


def _stack(call: Call, two_stacks: bool) -> Stack:
    """The stack of a call, from its lengths: the text has two tokens, the decoder has one."""
    if not two_stacks:
        return "self"
    if call.queries == call.key.shape[2]:
        return "decoder" if call.queries == 1 else "encoder"
    return "cross"


def probe(backbone: Backbone, name: str) -> None:
    """Set the backbone's sites and check that each is called, changes the output and gets gradient.

    In families that do not use the attention registry (DeBERTa, MPNet, Longformer, ...) prompts
    would silently have no effect; this check detects them.

    Raises:
        BackboneError: the model cannot run, has no site, or has one whose prompts change nothing
            or get no gradient.
    """
    training = backbone.training
    backbone.eval()
    try:
        backbone.set_sites(_sites(backbone, name))
        _check(backbone, name)
    finally:
        backbone.train(training)


def _sites(backbone: Backbone, name: str) -> tuple[Site, ...]:
    try:
        return find_sites(backbone)
    except Exception as error:  # of any type: sizes in config.json may fit the weights by chance
        if out_of_memory(error):
            raise
        first = str(error).partition("\n")[0] or type(error).__name__
        raise BackboneError.at(
            f"backbone {name}",
            f"its model cannot run on two tokens: {first}",
            "copy config.json and the weights again from where the model came from",
        ) from error


def _check(backbone: Backbone, name: str) -> None:
    if not backbone.sites:
        raise _refusal(name, "its attention never reads prompts, so they would have no effect")
    for stack, layers in backbone.shape.stacks.items():
        count = sum(site.stack == stack for site in backbone.sites)
        if count != layers:
            of = "" if stack == "self" else f"{stack} "
            raise _refusal(
                name,
                f"{count} of its {layers} {of}layers read prompts: the others would ignore them",
            )
    draws = torch.Generator().manual_seed(0)
    prompts = {number: random_prompt(site, draws) for number, site in enumerate(backbone.sites)}
    text = _text(backbone)
    with torch.no_grad():
        plain = backbone(text)
    hidden = backbone(text, Prompts(keys_values=prompts))
    if torch.equal(plain, hidden):
        raise _refusal(name, "prompts do not change its output")
    # A random projection, because a mean of squares after LayerNorm has almost no gradient.
    loss = (hidden * torch.randn(hidden.shape, generator=draws)).sum()
    leaves = [leaf for pair in prompts.values() for leaf in pair]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    for leaf, gradient in enumerate(gradients):
        if gradient is None or not gradient.abs().sum() > 0:
            site = backbone.sites[leaf // 2]
            part = ("keys", "values")[leaf % 2]
            raise _refusal(name, f"prompt {part} at {site.module} get no gradient")


def random_prompt(site: Site, draws: torch.Generator) -> KeysValues:
    """N(0, 1) keys and values of one site [1, K, LENGTH, D] with gradient."""
    shape = (1, site.heads, LENGTH, site.head_size)
    keys = torch.randn(shape, generator=draws).requires_grad_()
    return keys, torch.randn(shape, generator=draws).requires_grad_()


def _text(backbone: Backbone) -> PlainBatch:
    # Two different ids from the middle of the vocabulary, because special tokens are at its ends.
    middle = backbone.word_embeddings.shape[0] // 2
    ids = torch.tensor([[middle, middle + 1]], device=backbone.word_embeddings.device)
    return PlainBatch(ids, torch.ones_like(ids))


def _refusal(name: str, reason: str) -> BackboneError:
    return BackboneError.at(
        f"backbone {name}", reason, "ptv2 list backbones shows the families that work"
    )
