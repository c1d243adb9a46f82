"""Checkpoints where processes share weights: whole in the file, a part in each process.

So a checkpoint says nothing of the number of processes, and one of any number can go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ptv2_cli.distributed.group import ProcessGroup
from ptv2_cli.distributed.shard import gathered_weight, is_shared, scattered_weight
from ptv2_cli.learner import Learner
from ptv2_cli.training.checkpoint import Checkpoint


def shared_weights(learner: Learner) -> dict[str, Tensor]:
    """Name in a checkpoint -> weight, for the weights that processes share."""
    state = learner.state_dict()
    return {f"learner.{name}": value for name, value in state.items() if is_shared(value)}


def gathered(tensors: Mapping[str, Tensor], group: ProcessGroup) -> dict[str, Tensor]:
    """The tensors of a checkpoint as rank 0 writes them; the other ranks get those they have whole.

    All ranks must call it. One shared tensor at a time is whole on the device of rank 0, and goes
    on to its main memory.
    """
    whole = {}
    for name, tensor in tensors.items():
        if not is_shared(tensor):
            whole[name] = tensor
        elif (rows := gathered_weight(tensor, group)) is not None:
            whole[name] = rows.cpu()
    return whole


def received(
    checkpoint: Checkpoint | None, shared: Mapping[str, Tensor], group: ProcessGroup
) -> Checkpoint | None:
    """The checkpoint that rank 0 has read, in every rank, with its part of the shared tensors.

    All ranks must call it.

    Args:
        checkpoint: in rank 0 the one of the file, None if there is none; None in the others.
        shared: name in the checkpoint -> the weight that the tensor belongs to.
        group: the processes.
    """
    if group.size == 1 or not shared:
        return group.from_first(checkpoint)
    whole: dict[str, Tensor] = {}
    rest = checkpoint
    if checkpoint is not None:
        # One of another shape is left to `load_tensors`, which says what is wrong.
        whole = {
            name: tensor
            for name, tensor in checkpoint.tensors.items()
            if name in shared and shared[name].shape == tensor.shape
        }
        others = {name: value for name, value in checkpoint.tensors.items() if name not in whole}
        rest = Checkpoint(others, checkpoint.state)
    types: dict[str, torch.dtype] = {name: tensor.dtype for name, tensor in whole.items()}
    rest, types = group.from_first((rest, types))
    if rest is None:
        return None
    parts = {
        name: scattered_weight(whole.get(name), shared[name], dtype, group)
        for name, dtype in types.items()
    }
    return Checkpoint(rest.tensors | parts, rest.state)
