"""`train.shard: full`: each of several processes holds a part of the frozen weights.

FSDP2 (`torch.distributed.fsdp.fully_shard`, arXiv 2304.11277) keeps 1 / N of every weight of a
layer in each of N processes, and gathers a layer's weights for as long as its forward or backward
pass needs them. Embeddings, the last norm, heads and everything that trains stay whole in every
process.

A layer is gathered by all processes together, so all of them must run the same layers in the same
order: evaluations are not shared out, and no process keeps outputs of lower layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.distributed.group import ProcessGroup
from ptv2_cli.errors import RankEnded


def shard_layers(backbone: Backbone, group: ProcessGroup, device: torch.device) -> None:
    """Leave this process its part of the frozen weights of each layer, on the device.

    One layer after another is moved there, so that no more than one is there as a whole. Weights
    that are mapped from a file take no memory before that.

    Args:
        backbone: frozen but for what a method has added, in which all processes are alike.
        group: the processes; one alone keeps everything.
        device: where this process trains.
    """
    if group.size == 1:
        return
    from torch.distributed.fsdp import fully_shard  # not every run's to wait for

    mesh = DeviceMesh.from_group(group.tensors, device.type)
    model = backbone.model
    layers = layers_with_sites(model)
    frozen = {value for layer in layers for value in layer.parameters() if not value.requires_grad}
    whole = {value for value in model.parameters() if value not in frozen}
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    # With a root, a layer is gathered while the one before it computes.
    fully_shard(model, mesh=mesh, ignored_params=whole)


@contextmanager
def losses_noticed(group: ProcessGroup) -> Iterator[None]:
    """Turn a gathering that fails because a process has ended into `RankEnded`."""
    try:
        yield
    except RuntimeError as error:
        if group.size > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise RankEnded(None) from error
        raise
