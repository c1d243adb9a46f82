"""Optimizer groups and learning rate schedules."""

from __future__ import annotations

import math

import pytest
import tiny

from ptv2_cli.training.optim import LearningRates, build_optimizer, build_schedule, set_rates


def scales(kind: str, steps: int, warmup: float, per_epoch: int = 5) -> list[float]:
    scale = build_schedule(kind, steps, warmup, per_epoch)
    return [scale(step) for step in range(steps)]


def test_linear_falls_to_nothing() -> None:
    assert scales("linear", 10, 0.0) == pytest.approx([1 - step / 10 for step in range(10)])


def test_cosine_falls_to_nothing_slowly_at_both_ends() -> None:
    found = scales("cosine", 10, 0.0)
    assert found == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 10)) for k in range(10)])
    assert found[0] == 1.0
    assert found[5] == pytest.approx(0.5)
    assert 1 - found[1] < 0.1 > found[9]  # linear's are 0.1


def test_constant() -> None:
    assert scales("constant", 10, 0.0) == [1.0] * 10


def test_exponential_falls_once_per_epoch() -> None:
    assert scales("exponential", 12, 0.0) == pytest.approx([1.0] * 5 + [0.95] * 5 + [0.95**2] * 2)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "exponential"])
def test_warmup_climbs_to_the_peak(kind) -> None:
    found = scales(kind, 20, 0.2, per_epoch=20)
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[4] == 1.0
    if kind == "linear":
        assert found[5:] == pytest.approx([15 / 16 - k / 16 for k in range(15)])
    elif kind == "cosine":
        assert found[12] == pytest.approx(0.5)
        assert found[4:] == sorted(found[4:], reverse=True)
    else:
        assert found[4:] == [1.0] * 16


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_run_of_one_step(kind) -> None:
    assert scales(kind, 1, 0.06) == [1.0]


def test_decay_skips_biases_norms_and_vectors(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), "finetune", None)
    optimizer = build_optimizer(learner, LearningRates(1.0, 2.0, 3.0), 0.01)
    names = {parameter: name for name, parameter in learner.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            vector = name.endswith("bias") or "LayerNorm" in name
            assert group["weight_decay"] == (0.0 if vector else 0.01), name
            assert group["lr"] == (2.0 if name.startswith("head.") else 3.0), name
            seen.add(name)
    assert seen == set(names.values())


def test_rates_follow_their_own_peaks(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    optimizer = build_optimizer(learner, LearningRates(0.5, 0.1, 9.0), 0.0)
    set_rates(optimizer, 0.5)
    set_rates(optimizer, 0.5)  # of the peak, not of what stands there
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.05, 0.25]


def test_the_head_trains_at_its_own_rate(folder_of, tmp_path) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    for number, (head, expected) in enumerate(((None, 0.05), (0.2, 0.2))):
        section = {"name": "sequence"} if head is None else {"name": "sequence", "lr": head}
        config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, head=section)
        session = tiny.opened(config, tmp_path / f"runs{number}")
        own = {
            parameter: group["lr"]
            for group in session.new_lane().optimizer.param_groups
            for parameter in group["params"]
        }
        rates = [
            {own[parameter] for parameter in session.learner.own_parameters(part)}
            for part in ("method", "head")
        ]
        assert rates == [{0.05}, {expected}]
