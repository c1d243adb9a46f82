"""`ptv2 import` of adapters and checkpoints whose files were altered."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commanding import Commands, examples
from hypothesis import given
from hypothesis import strategies as st
from odd import SCALARS, damaged, spoilt
from safetensors.torch import load, save

KEYS = (
    *("peft_type", "task_type", "num_virtual_tokens", "num_layers", "token_dim", "revision"),
    *("num_transformer_submodules", "base_model_name_or_path", "encoder_hidden_size", "x", ""),
)


@pytest.fixture(scope="module")
def adapter(ptv2: Commands, bert: Path, rte: Path) -> dict[str, bytes]:
    """The files of a PEFT adapter, and beside them config.yaml, which fits it."""
    import tiny

    task = {"name": "superglue/rte", "data": str(rte), "max_len": 24}
    train = {"steps": 1, "batch_size": 4, "lr": 0.05}
    path = tiny.write_config(Path("config.yaml"), bert, rte, task=task, train=train)
    assert ptv2("train", path, "--offline") == 0
    (run,) = Path("runs").iterdir()
    assert ptv2("export", run, "adapter", "--to", "peft", "--offline") == 0
    return {file.name: file.read_bytes() for file in sorted(Path("adapter").iterdir())}


@pytest.fixture(scope="module")
def reference(bert: Path) -> dict[str, torch.Tensor]:
    """What a pytorch_model.bin of the reference repository holds."""
    body = {f"bert.{name}": value for name, value in load_folder(bert).items()}
    return {
        **body,
        "prefix_encoder.embedding.weight": torch.ones(3, 3 * 2 * 32),
        "classifier.weight": torch.ones(2, 32),
        "classifier.bias": torch.ones(2),
    }


def load_folder(folder: Path) -> dict[str, torch.Tensor]:
    return load((folder / "model.safetensors").read_bytes())


class Shown(dict[Any, Any]):
    """Tensors by name, of which messages show the shapes."""

    def __repr__(self) -> str:
        shapes = {name: getattr(value, "shape", value) for name, value in self.items()}
        return str({name: shape for name, shape in shapes.items() if "bert." not in str(name)})


@st.composite
def other_tensors(draw: st.DrawFn, tensors: dict[str, torch.Tensor]) -> Shown:
    """Tensors by name with some gone, renamed, of other shapes and types, or no tensors."""
    found = Shown(tensors)
    # The names that matter stand at the ends of what files hold.
    names = [*sorted(found)[:3], *sorted(found)[-4:]]
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names))
        value = found.get(name, torch.ones(2))
        how = draw(st.sampled_from(["gone", "renamed", "shape", "type", "value"]))
        if how == "gone":
            found.pop(name, None)
        elif how == "renamed":
            keys = [f"{name}.x", name.replace("weight", "bias"), "", 3, None, ("a", 1), b"x"]
            found[draw(st.sampled_from(keys))] = found.pop(name, value)
        elif how == "shape" and isinstance(value, torch.Tensor):
            shapes = [(), (0,), (1,), (2, 0), (3, 5), (2, 3, 4), (*value.shape, 1)]
            found[name] = torch.ones(draw(st.sampled_from(shapes)))
        elif how == "type" and isinstance(value, torch.Tensor):
            types = [torch.int64, torch.bool, torch.complex64, torch.float16, torch.float64]
            found[name] = value.to(draw(st.sampled_from(types)))
        elif how == "value":
            found[name] = draw(st.sampled_from([*SCALARS[:9], "x", [], {}, {"x": value}, [value]]))
    return found


def write(folder: str, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree("imported", ignore_errors=True)
    Path(folder).mkdir()
    for name, content in files.items():
        Path(folder, name).write_bytes(content)


def saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(dict(content), stream)
    return stream.getvalue()


@given(data=st.data())
@examples(40)
def test_peft(ptv2: Commands, adapter: dict[str, bytes], data: st.DataObject) -> None:
    files = dict(adapter)
    name = data.draw(st.sampled_from(sorted(adapter)))
    how = data.draw(st.integers(0, 4))
    if how == 0:
        files[name] = data.draw(damaged(files[name]))
    elif how == 1:
        tensors = data.draw(other_tensors(load(adapter["adapter_model.safetensors"])))
        del files["adapter_model.safetensors"]
        files["adapter_model.bin"] = saved(tensors)
    elif how == 2:
        tensors = data.draw(other_tensors(load(adapter["adapter_model.safetensors"])))
        plain = {str(key): v for key, v in tensors.items() if isinstance(v, torch.Tensor)}
        files["adapter_model.safetensors"] = save({k: v.clone() for k, v in plain.items()})
    else:
        tree = data.draw(spoilt(json.loads(files["adapter_config.json"]), KEYS))
        files["adapter_config.json"] = json.dumps(tree).encode()
    write("peft", files)
    words = ["import", "peft", "--from", "peft", "--output", "imported", "--offline"]
    if ptv2(*words) == 0:
        assert ptv2("eval", "--output", "imported", "--offline") == 0, ptv2.said


@given(data=st.data())
@examples(20)
def test_reference(
    ptv2: Commands,
    adapter: dict[str, bytes],
    reference: dict[str, torch.Tensor],
    data: st.DataObject,
) -> None:
    if data.draw(st.integers(0, 3)):
        content = saved(data.draw(other_tensors(reference)))
    else:
        content = data.draw(damaged(saved(reference)))
    write("theirs", {"pytorch_model.bin": content})
    words = ["import", "theirs", "--from", "p-tuning-v2", "--output", "imported", "--offline"]
    if ptv2(*words) == 0:
        assert ptv2("eval", "--output", "imported", "--offline") == 0, ptv2.said
