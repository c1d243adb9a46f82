"""Read the trained prompt and head of another program, and give them our names."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ptv2_cli.config.fingerprint import file_sha256
from ptv2_cli.errors import InputError, out_of_memory
from ptv2_cli.interop.folded import folded
from ptv2_cli.interop.stock_models import HEAD_NAMES


@dataclass(frozen=True)
class Foreign:
    """The content of a checkpoint of another program."""

    program: str
    file: Path
    source: Mapping[str, Tensor]
    """`prompt` [P, W], or [P, E] with `network.0.*` [hidden, E] and `network.2.*` [W, hidden]."""
    head: Mapping[str, Tensor] | None = None
    """`weight` [C, H], `bias` [C]; None: it has no head of one linear layer."""
    kinds: frozenset[str] | None = None
    """The kinds of task that the head fits; None: unknown."""
    pooling: str | None = None
    """The vector that the head reads; None: the one that transformers' class reads."""
    backbone: Mapping[str, Tensor] = field(default_factory=dict)
    """The backbone's tensors, under the names of the model without a head."""
    pooler: Mapping[str, Tensor] = field(default_factory=dict)
    """`weight` and `bias` of a pooler's linear layer that was saved beside the head."""
    base: str | None = None
    """The name of its backbone."""
    notes: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """P."""
        return len(self.source["prompt"])

    @property
    def hidden(self) -> int | None:
        """Hidden width of the network that computes the prompt; None: there is no network."""
        first = self.source.get("network.0.weight")
        return None if first is None else len(first)

    @property
    def width(self) -> int:
        """W, prompt values of one position over all layers."""
        last = self.source.get("network.2.weight")
        return int(self.source["prompt"].shape[1] if last is None else len(last))

    @property
    def sha256(self) -> str:
        """The sha256 of the file with the prompt."""
        return file_sha256(self.file)

    def suited(self, hidden_size: int) -> Foreign:
        """The same with its network folded, if the network's input is not as wide as ours."""
        if self.hidden is None or self.source["prompt"].shape[1] == hidden_size:
            return self
        note = "its network has another width than ours: it is folded into the prompt"
        return replace(self, source={"prompt": folded(self.source)}, notes=(*self.notes, note))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file; a pickle may contain nothing else.

    Raises:
        InputError: the file cannot be read, or loading it would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError.at(
            str(path),
            f"contains more than tensors, or is damaged; nothing of it was run ({first[:80]})",
            "ask its owner to save only the state_dict",
        ) from None
    except Exception as error:  # a damaged pickle can fail in any way
        if out_of_memory(error):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError.at(str(path), f"cannot be read: {first}", "copy the file again") from None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise InputError.at(
            str(path), "does not map names to tensors", "ask its owner to save the state_dict"
        )
    return tensors


def weights_in(folder: Path, names: Iterable[str]) -> Path:
    """The first of these files that exists in the folder.

    Raises:
        InputError: the folder or all of the files are missing.
    """
    if not folder.is_dir():
        raise InputError.at(str(folder), "there is no such folder", "name the folder of its files")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise InputError.at(
            str(folder), f"has no {' or '.join(names)}", f"its files: {_names(folder)}"
        )
    return path


def linear_head(
    parts: Mapping[str, Mapping[str, Tensor]],
) -> tuple[dict[str, Tensor] | None, str | None, tuple[str, ...]]:
    """Find the head that is one linear layer: its tensors, its name, and notes for the user.

    Args:
        parts: `classifier`, `score` or `qa_outputs` -> its tensors.
    """
    for name in HEAD_NAMES:
        tensors = parts.get(name)
        if not tensors:
            continue
        if not _is_linear(tensors):
            names = ", ".join(sorted({key.split(".")[0] for key in tensors}))
            note = f"its head ({name}: {names}) is not one linear layer, as ours is: it is left out"
            return None, name, (note,)
        weight = tensors["weight"]
        return (
            {"weight": weight, "bias": tensors.get("bias", weight.new_zeros(len(weight)))},
            name,
            (),
        )
    return None, None, ()


def _is_linear(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the weight [C, H] and perhaps the bias [C] of a linear layer."""
    if set(tensors) - {"weight", "bias"} or "weight" not in tensors:
        return False
    weight, bias = tensors["weight"], tensors.get("bias")
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        return False
    return weight.dim() == 2 and (bias is None or bias.shape == weight.shape[:1])


def check_source(file: Path, source: Mapping[str, Tensor]) -> None:
    """Check that the tensors of a prompt fit together.

    Raises:
        InputError: they do not.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in source.items()}
    odd = next((name for name in source if not source[name].is_floating_point()), None)
    if odd is not None:
        what = f"the prompt's tensor {odd} has type {source[odd].dtype}, not real numbers"
        raise InputError.at(str(file), what, "copy the file again")
    fits = len(shapes["prompt"]) == 2
    if len(source) > 1:
        layers = ("network.0", "network.2")
        expected = {"prompt", *(f"{name}.{part}" for name in layers for part in ("weight", "bias"))}
        fits = (
            fits
            and set(source) == expected
            and shapes["network.0.weight"][1:] == shapes["prompt"][1:]
            and shapes["network.2.weight"][1:] == shapes["network.0.weight"][:1]
            and all(shapes[f"{name}.bias"] == shapes[f"{name}.weight"][:1] for name in layers)
        )
    if not fits:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError.at(
            str(file), f"the prompt's tensors do not fit together: {listed}", "copy the file again"
        )


def _names(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "none"
