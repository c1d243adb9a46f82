"""What a run could change to need less memory, and how much each change saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import psutil
import torch

from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import LESS_MEMORY, MachineError, Problem, out_of_memory
from ptv2_cli.memory import in_words
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.rows.encoding import EncodedData, encode, tokenizer_of
from ptv2_cli.runs.step_memory import step_memory

LEAST = 0.05
"""Share of the whole that a change must save to be worth a word."""
SMALL = 0.1
"""Share of a device's memory below which a step does not explain why memory gave out."""
NAMED = 2
"""Changes that a message names."""


@dataclass(frozen=True)
class Lever:
    """A change of the config that saves memory."""

    sets: tuple[str, ...]
    """`KEY=VALUE`, as --set takes them."""
    cost: str
    """What else it changes."""
    saved: int = 0
    """Bytes of a training step."""

    def __str__(self) -> str:
        flags = " ".join(f"--set {each}" for each in self.sets)
        return f"{flags} saves about {in_words(self.saved)} ({self.cost})"


def levers(
    resolved: ResolvedConfig, data: EncodedData, device: torch.device, devices: int = 1
) -> list[Lever]:
    """The changes that save memory on each of several devices, the one that saves most first.

    Empty where the memory of a step cannot be told.
    """
    now = step_memory(resolved, data, device, devices)
    if now is None:
        return []
    measured = []
    for lever in _possible(resolved, devices):
        after = step_memory(_with(resolved, lever), data, device, devices)
        if after is not None:
            measured.append(replace(lever, saved=now.total - after.total))
    useful = [lever for lever in measured if lever.saved > LEAST * now.total]
    return sorted(useful, key=lambda lever: -lever.saved)


@contextmanager
def memory_explained(run: ResolvedRun, device: torch.device, devices: int = 1) -> Iterator[None]:
    """Say what would help most if memory gives out in the `with` block, on one of the devices.

    Raises:
        MachineError: it did.
    """
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        what, hint = "out of memory", LESS_MEMORY
        try:
            resolved = run.resolved
            data = encode(resolved, run.data, tokenizer_of(resolved))
            need = step_memory(resolved, data, device, devices)
            if need is None or need.total < SMALL * total_memory(device):
                raise error from None  # something else fills the memory
            helping = levers(resolved, data, device, devices)
        except Exception:  # of any type: where memory is short, anything may fail
            raise error from None
        whole = in_words(total_memory(device))
        what += f": a training step needs about {in_words(need.total)}, and {device} has {whole}"
        if helping:
            hint = "; or ".join(str(lever) for lever in helping[:NAMED])
        raise MachineError(Problem(str(run.directory.path), what, hint)) from error


def total_memory(device: torch.device) -> int:
    """Bytes of the device's memory, free or not."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return int(psutil.virtual_memory().total)


def _possible(resolved: ResolvedConfig, devices: int) -> Iterator[Lever]:
    """Changes that this config allows."""
    config, method = resolved.config, resolved.method
    train, backbone = config.train, config.backbone
    if resolved.shape.family.checkpointing and not train.gradient_checkpointing:
        yield Lever(("train.gradient_checkpointing=true",), "same result, more time")
    twice = f"train.accumulate={2 * train.accumulate}"
    if train.batch_tokens is not None:
        yield Lever((f"train.batch_tokens={train.batch_tokens // 2}", twice), "other batches")
    elif train.batch_size > 1:
        half = f"train.batch_size={-(-train.batch_size // 2)}"
        yield Lever((half, twice), "same result")
    if train.precision == "fp32":
        yield Lever(("train.precision=bf16",), "scores change a little")
    if not method.trains_backbone and backbone.dtype == "fp32":
        yield Lever(("backbone.dtype=bf16",), "scores change a little")
    kept = train.compile or train.cache is not None or config.retention is not None
    whole = train.shard is None and backbone.quantize is None and not kept
    scaled = method.trains_backbone and train.precision == "fp16"
    if devices > 1 and whole and not scaled:
        yield Lever(("train.shard=full",), "same result, and the devices send weights")
    if devices > 1 and train.shard is not None and not train.cpu_offload:
        yield Lever(("train.cpu_offload=true",), "same result, more time")
    quantizes = find_spec("torchao") is not None and not train.compile and train.shard is None
    if quantizes and not method.changes_backbone and backbone.quantize is None:
        yield Lever(("backbone.quantize=int8",), "scores change a little, more time")


def _with(resolved: ResolvedConfig, lever: Lever) -> ResolvedConfig:
    content: dict[str, Any] = resolved.config.model_dump()
    for each in lever.sets:
        key, value = each.split("=")
        section, name = key.split(".")
        whole = value if not value.isdigit() else int(value)
        content[section][name] = whole if value != "true" else True
    return replace(resolved, config=RunConfig.model_validate(content))
