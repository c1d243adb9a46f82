"""`train.shard: full`: each of several processes holds a part of the weights of the layers.

FSDP2 (`torch.distributed.fsdp.fully_shard`, arXiv 2304.11277) keeps 1 / N of every weight of a
layer in each of N processes, and gathers a layer's weights for as long as its forward or backward
pass needs them. If they train, it sums their gradients in the backward pass and leaves each process
the gradient of its part, which is all that the optimizer moves there. Embeddings, the last norm,
heads and what a method adds stay whole in every process.

A layer is gathered by all processes together, so all of them must run the same layers in the same
order: evaluations are not shared out, and no process keeps outputs of lower layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.distributed.group import ProcessGroup
from ptv2_cli.errors import RankEnded
from ptv2_cli.learner import Learner


def shard_layers(
    learner: Learner, group: ProcessGroup, device: torch.device, *, offload: bool = False
) -> None:
    """Move the learner to the device, and leave this process its part of each layer's weights.

    One layer after another is moved there, so that no more than one is there as a whole. Weights
    that are mapped from a file take no memory before that. What a method has added to a layer, and
    trains there, stays whole.

    Args:
        learner: the same in all processes.
        group: the processes, several.
        device: where this process trains.
        offload: whether the part, and of weights that train its gradients and optimizer states,
            stays in main memory, and is copied to the device when a layer is gathered.
    """
    # not every run's to wait for
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

    policy = OffloadPolicy()
    if offload:
        policy = CPUOffloadPolicy(pin_memory=device.type != "cpu")
    mesh = DeviceMesh.from_group(group.tensors, device.type)
    model = learner.backbone.model
    shared = shared_values(learner)
    whole = {value for value in model.parameters() if value not in shared}
    layers = [
        fully_shard(layer, mesh=mesh, offload_policy=policy, ignored_params=whole)
        for layer in layers_with_sites(model)
    ]
    # With a root, a layer is gathered while the one before it computes.
    fully_shard(model, mesh=mesh, ignored_params=whole)
    for layer in layers:
        # Losses are weighted by targets, so their gradients add up; the default is the mean.
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)
        # A run may go on with an evaluation, and tensors that inference mode makes cannot train.
        layer.unshard()
        layer.reshard()
    for value in (*learner.parameters(), *learner.buffers()):
        if not is_shared(value):
            value.data = value.data.to(device)


def shared_values(learner: Learner) -> set[nn.Parameter]:
    """The backbone's weights in its layers, but for those that a method trains there."""
    trained = set(learner.own_parameters("backbone")) if learner.method.trains_backbone else set()
    return {
        value
        for layer in layers_with_sites(learner.backbone.model)
        for value in layer.parameters()
        if value in trained or not value.requires_grad
    }


def is_shared(tensor: Tensor) -> bool:
    """Whether this process has a part of a weight that processes share, or of its gradient."""
    return hasattr(tensor, "to_local")


def part_of(tensor: Tensor) -> Tensor:
    """The rows of a shared tensor that this process has; one that is whole here is itself."""
    if not is_shared(tensor):
        return tensor
    shared: Any = tensor.detach()
    rows: Tensor = shared.to_local()
    return rows


def gathered_weight(tensor: Tensor, group: ProcessGroup) -> Tensor | None:
    """All rows of a shared tensor, on the device of rank 0; None in the others."""
    rows = part_of(tensor).to(_device(tensor))
    return group.gather_rows(rows, len(tensor))


def scattered_weight(
    whole: Tensor | None, like: Tensor, dtype: torch.dtype, group: ProcessGroup
) -> Tensor:
    """A shared tensor from all its rows, which rank 0 gives; the others give None.

    Args:
        whole: the rows, of any device.
        like: the weight whose form it has.
        dtype: of the rows.
        group: the processes.
    """
    from torch.distributed.tensor import DTensor

    part, device = part_of(like), _device(like)
    rows = torch.empty(part.shape, dtype=dtype, device=device)
    group.scatter_rows(None if whole is None else whole.to(device), rows, len(like))
    form: Any = like
    return DTensor.from_local(
        rows,
        form.device_mesh,
        form.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def plain_beside_shared(shared: bool) -> AbstractContextManager[None]:
    """Let an operation on several tensors take whole ones beside shared ones, if there are any."""
    if not shared:
        return nullcontext()
    from torch.distributed.tensor.experimental import implicit_replication

    allowed: AbstractContextManager[None] = implicit_replication()
    return allowed


@contextmanager
def losses_noticed(group: ProcessGroup) -> Iterator[None]:
    """Turn a gathering that fails because a process has ended into `RankEnded`."""
    try:
        yield
    except RuntimeError as error:
        if group.size > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise RankEnded(None) from error
        raise


def _device(tensor: Tensor) -> torch.device:
    """Where the processes compute with a shared tensor."""
    shared: Any = tensor
    return torch.device(shared.device_mesh.device_type)
