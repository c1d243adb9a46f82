"""Copy the tensors of a foreign checkpoint into a learner, or report why they do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.errors import InputError
from ptv2_cli.interop.foreign import Foreign
from ptv2_cli.interop.stock_models import stock_head
from ptv2_cli.learner import Learner
from ptv2_cli.runs.session import Session

_SOURCE = "source."


def fit_prompt(learner: Learner, foreign: Foreign) -> None:
    """Copy the prompt and its network.

    Raises:
        InputError: its width is not that of the backbone's layers.
    """
    sites = learner.backbone.sites
    width = sum(site.width for site in sites)
    if width != foreign.width:
        raise InputError.at(
            str(foreign.file),
            f"its prompt has {foreign.width:,} values at each position, the {len(sites)} layers of "
            f"this backbone take {width:,}",
            "name the backbone that it was trained on: --set backbone=NAME",
        )
    named = {f"{_SOURCE}{name}": tensor.float() for name, tensor in foreign.source.items()}
    _copy(learner.method, named, foreign)


def fit_head(session: Session, foreign: Foreign) -> Iterator[str]:
    """Copy the head; yield a warning if the checkpoint has none.

    Raises:
        InputError: it is for another task or number of classes, or reads another vector.
    """
    task, config = session.resolved.task, session.resolved.config
    where = str(foreign.file)
    if task.kind_spec.writes:  # by the backbone's own head
        return
    if foreign.head is None:
        yield "the checkpoint has no head that fits: this one is untrained, its scores say nothing"
        return
    if foreign.kinds is not None and task.kind not in foreign.kinds:
        kinds = " or ".join(sorted(foreign.kinds))
        raise InputError.at(
            where,
            f"its head is of kind {kinds}, {task.name} needs {task.kind}",
            "name the task that it was trained for: --set task=NAME",
        )
    ours = session.learner.head.state_dict()["linear.weight"].shape
    theirs = foreign.head["weight"].shape
    if ours != theirs:
        raise InputError.at(
            where,
            f"its head is {tuple(theirs)}, that of {task.name} is {tuple(ours)} (classes, width)",
            "name the task that it was trained for: --set task=NAME",
        )
    reads = _reads(session, foreign)
    if task.kind_spec.pooled and config.head.pooling != reads:
        raise InputError.at(
            where,
            f"its head reads {reads or 'what no pooling here gives'}, the config's "
            f"head.pooling is {config.head.pooling}",
            f"--set head.pooling={reads}" if reads else "train the head again",
        )
    tensors = {f"linear.{part}": tensor.float() for part, tensor in foreign.head.items()}
    _copy(session.learner.head, tensors, foreign)


def fit_backbone(backbone: Backbone, foreign: Foreign) -> Iterator[str]:
    """Check that the frozen tensors are those of the backbone; copy a pooler that it lacks.

    Raises:
        InputError: they differ, so the prompt belongs to another backbone.
    """
    if foreign.pooler:
        _fill_pooler(backbone, foreign.pooler, foreign)
    if not foreign.backbone:
        base = f" ({foreign.base})" if foreign.base else ""
        yield f"the checkpoint does not contain its backbone{base}: check that it is this one"
        return
    expected = _tensors(backbone)
    untrained = set(backbone.untrained)
    given = {
        name: tensor
        for name, tensor in foreign.backbone.items()
        if backbone.pooler is not None or not name.startswith("pooler.")
    }
    unknown = sorted(set(given) - set(expected))
    missing = sorted(set(expected) - set(given) - untrained)
    differing = [
        name
        for name, tensor in given.items()
        if name in expected and name not in untrained and not _equal(expected[name], tensor)
    ]
    for names, what in (
        (unknown, "tensors that this backbone does not have"),
        (missing, "tensors fewer than this backbone"),
        (differing, "tensors other than those of this backbone"),
    ):
        if names:
            raise InputError.at(
                str(foreign.file),
                f"its backbone has {len(names)} {what}, such as {names[0]}",
                "name the backbone that it was trained on: --set backbone=NAME",
            )
    with torch.no_grad():
        for name in untrained & set(given):
            expected[name].copy_(given[name])
    yield f"its backbone's {len(given) - len(untrained & set(given))} tensors are those of this one"


def _reads(session: Session, foreign: Foreign) -> str | None:
    """The pooling whose vector the foreign head reads."""
    if foreign.pooling is not None:
        return foreign.pooling
    assert foreign.head is not None
    backbone = session.learner.backbone
    stock = stock_head(
        backbone.model.config,
        session.resolved.task.kind_spec,
        len(foreign.head["weight"]),
        causal=backbone.shape.family.causal,
    )
    return None if stock is None else stock.reads


def _tensors(backbone: Backbone) -> dict[str, Tensor]:
    """The backbone's parameters under the names of the model's own files; they share memory."""
    tensors = dict(backbone.model.named_parameters())
    if backbone.pooler is not None:
        tensors |= {f"pooler.{name}": value for name, value in backbone.pooler.named_parameters()}
    return tensors


def _fill_pooler(backbone: Backbone, given: Mapping[str, Tensor], foreign: Foreign) -> None:
    layers = (
        []
        if backbone.pooler is None
        else [part for part in backbone.pooler.modules() if isinstance(part, nn.Linear)]
    )
    if len(layers) != 1:
        raise InputError.at(
            str(foreign.file.parent), "has a pooler, this run has none", "--set head.pooling=pooler"
        )
    if backbone.untrained:
        _copy(layers[0], given, foreign)
    elif not all(_equal(layers[0].get_parameter(name), tensor) for name, tensor in given.items()):
        raise InputError.at(
            str(foreign.file.parent),
            "its pooler is not that of this backbone",
            "name the backbone that it was trained on: --set backbone=NAME",
        )


def _copy(module: nn.Module, tensors: Mapping[str, Tensor], foreign: Foreign) -> None:
    parameters = module.state_dict()
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            shape = tuple(parameters[name].shape) if name in parameters else "nothing of that name"
            raise InputError.at(
                str(foreign.file),
                f"{name} is {tuple(tensor.shape)}, the config's model has {shape}",
                "check the config's backbone and method",
            )
    module.load_state_dict(dict(tensors), strict=False)


def _equal(own: Tensor, given: Tensor) -> bool:
    return own.shape == given.shape and torch.equal(own, given.to(own.dtype).to(own.device))
