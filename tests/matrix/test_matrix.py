"""Every family with every head and every method, on tiny random models."""

from __future__ import annotations

import pytest
import torch
from cells import (
    CELLS,
    FROZEN,
    METHODS,
    PROMPTED,
    Backbones,
    P,
    batch_of,
    cells,
    differ,
    learner_of,
    predicted,
    rows_of,
)

from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.training.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from ptv2_cli.training.optim import LearningRates, build_optimizer


@pytest.fixture(scope="session")
def backbones(folder_of) -> Backbones:
    return Backbones(folder_of)


def site_gradients(method) -> list[torch.Tensor]:
    """Keys and values of every chosen site, their gradients [2, ...]."""
    widths = [site.width for site in method.sites.values()]
    parts = torch.split(method.source.prompt.grad, widths, dim=1)
    return [part.unflatten(1, (2, -1)).transpose(0, 1) for part in parts]


@pytest.mark.parametrize(("family", "kind", "method"), cells(FROZEN))
def test_what_trains_gets_gradient_and_the_rest_stays(family, kind, method, backbones) -> None:
    backbone = backbones.get(family, kind)
    learner = learner_of(backbone, kind, method)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    optimizer = build_optimizer(learner, LearningRates(0.1, 0.1, 0.1), 0.0)
    output = learner(batch_of(kind, family, method))
    assert output.loss.isfinite()
    output.loss.backward()
    if method == "ptuning_v2":
        assert len(learner.method.sites) == len(backbone.sites)
        for at, gradient in enumerate(site_gradients(learner.method)):
            assert (gradient.abs().amax(dim=(1, 2)) > 0).all(), backbone.sites[at]
    elif method in PROMPTED:
        assert (learner.method.prompt.grad.abs().amax(dim=1) > 0).all()
    assert learner.head.linear.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in backbone.parameters())
    optimizer.step()
    for name, tensor in learner.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(learner.head.linear.weight, before["head.linear.weight"])


@pytest.mark.parametrize(("family", "kind", "method"), cells(["finetune"]))
def test_finetuning_reaches_every_layer(family, kind, method, backbones) -> None:
    learner = learner_of(backbones.get(family, kind), kind, method)
    learner(batch_of(kind, family, method)).loss.backward()
    modules = {injection_of(module)[1]: module for module in learner.backbone.model.modules()}
    for site in learner.backbone.sites:
        weights = [p for p in modules[site.module].parameters() if p.grad is not None]
        assert any(p.grad.abs().sum() > 0 for p in weights), site


@pytest.mark.parametrize(("family", "kind", "method"), CELLS)
def test_padding_does_not_leak(family, kind, method, backbones) -> None:
    learner = learner_of(backbones.get(family, kind), kind, method)
    batch = batch_of(kind, family, method)
    trainer = predicted(learner, batch)
    if kind == "choice":
        first = rows_of(batch, slice(2, 5), torch.tensor([[0, 1, 2]]))
    else:
        first = rows_of(batch, slice(1, 2))
    assert first.input_ids.shape[1] < batch.input_ids.shape[1]
    for name, found in predicted(learner, first).items():
        expected = trainer[name][1:]
        if kind in {"token", "span"}:
            expected = expected[:, : found.shape[1]]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("family", "kind", "method"), cells(PROMPTED))
def test_every_part_of_the_prompt_matters(family, kind, method, backbones) -> None:
    backbone = backbones.get(family, kind)
    learner = learner_of(backbone, kind, method)
    batch = batch_of(kind, family, method)
    plain = predicted(learner, batch)
    if method == "ptuning_v2":
        prompt = learner.method.source.prompt
        halves = [site.width // 2 for site in backbone.sites for _ in "kv"]
        parts = torch.split(prompt.data, halves, dim=1)
    else:
        prompt = learner.method.prompt
        parts = prompt.data.split(1)
    for part in parts:
        kept = part.clone()
        part.copy_(part.flip(-1) + 1.0)
        assert differ(plain, predicted(learner, batch)) > 1e-4
        part.copy_(kept)
    assert differ(plain, predicted(learner, batch)) == 0
    assert len(parts) == (2 * len(backbone.sites) if method == "ptuning_v2" else P)


@pytest.mark.parametrize(("family", "kind", "method"), cells(METHODS))
def test_a_checkpoint_brings_it_all_back(family, kind, method, backbones, tmp_path) -> None:
    backbone = backbones.get(family, kind)
    learner = learner_of(backbone, kind, method)
    batch = batch_of(kind, family, method)
    expected = predicted(learner, batch)
    save_checkpoint(tmp_path, "best", "0123abcd", learner.own_state(), {})
    if method == "finetune":
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.05)
    fresh = learner_of(backbone, kind, method, seed=1)
    assert differ(expected, predicted(fresh, batch)) > 1e-4
    load_tensors(fresh, load_checkpoint(tmp_path, "best", "0123abcd").tensors, tmp_path)
    found = predicted(fresh, batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
