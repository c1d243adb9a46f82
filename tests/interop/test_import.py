"""`ptv2 import`: PEFT's adapters and the reference's checkpoints as runs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from swapping import STEPS, batch_of, exported, logits_of, make_run, reopened
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, DynamicCache

from ptv2_cli.config.load import load_config, parse_set
from ptv2_cli.errors import InputError
from ptv2_cli.interop.foreign import Foreign
from ptv2_cli.interop.from_peft import read_peft
from ptv2_cli.interop.from_reference import read_reference
from ptv2_cli.interop.import_run import Imported, import_checkpoint, settings_of
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.rescore import open_for_rescoring

FolderOf = Callable[[str], Path]
LENGTH = 5


def config_of(folder: Path, backbone: Path, **changes: Any) -> Path:
    """A config that leaves prompt_len to the checkpoint."""
    data = folder / "data"
    if not data.exists():
        tiny.write_rte(data, train=8, validation=6)
    return tiny.write_config(
        folder / "import.yaml", backbone, data, **{"prompt_len": None, "train": STEPS, **changes}
    )


def imported(folder: Path, foreign: Foreign, config: Path) -> Imported:
    """Import a checkpoint as a run under `imported/`."""
    sets = settings_of(load_config(config), foreign)
    loaded = load_config(config, [parse_set(text) for text in sets])
    return import_checkpoint(foreign, loaded, folder / "imported", device=tiny.CPU, offline=True)


def altered(
    folder: Path,
    model: Path,
    *,
    without: str | None = None,
    nudge: str | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """A copy of a model's folder without some tensors, with one changed, or another config."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if without is None or not k.startswith(without)}
    if nudge is not None:
        kept[nudge].flatten()[0] += 0.5
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **(config or {})}))
    return folder


# PEFT


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {}),
        ("bert", {"head": {"pooling": "mean"}}),
        ("roberta", {"head": {"pooling": "pooler"}}),
        ("gpt2", {}),
        ("llama", {}),
    ],
)
def test_a_run_goes_to_peft_and_comes_back(
    tmp_path: Path, folder_of: FolderOf, family: str, changes: dict[str, Any]
) -> None:
    run = make_run(tmp_path, folder_of(family), **changes)
    exported(run, tmp_path / "adapter")
    config = config_of(tmp_path, folder_of(family), **changes)
    made = imported(tmp_path, read_peft(tmp_path / "adapter"), config)
    session, other = reopened(run), reopened(made.directory)
    batch = batch_of(session, tmp_path)
    assert torch.equal(logits_of(session, batch), logits_of(other, batch))
    before = run.read_metrics()["metrics"]["validation"]
    assert made.metrics["metrics"]["validation"] == before
    assert made.warnings == ()
    assert made.metrics["origin"]["kind"] == "imported from peft"
    assert made.metrics["prompt_len"] == 3


@pytest.mark.parametrize("projection", [False, True])
def test_an_adapter_that_peft_trained(
    tmp_path: Path, folder_of: FolderOf, projection: bool
) -> None:
    """An adapter that peft made and wrote: its logits equal ours."""
    from peft import PrefixTuningConfig, get_peft_model

    torch.manual_seed(3)
    base = AutoModelForSequenceClassification.from_pretrained(folder_of("bert"), num_labels=2)
    settings = PrefixTuningConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=LENGTH,
        prefix_projection=projection,
        encoder_hidden_size=12,
    )
    model = get_peft_model(base, settings).eval()
    model.save_pretrained(tmp_path / "adapter")
    made = imported(
        tmp_path, read_peft(tmp_path / "adapter"), config_of(tmp_path, folder_of("bert"))
    )
    session = reopened(made.directory)
    batch = batch_of(session, tmp_path)
    with torch.no_grad():
        theirs = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
        ).logits
    torch.testing.assert_close(logits_of(session, batch), theirs, atol=1e-5, rtol=0)
    assert made.metrics["config"]["method"]["reparam"] == "none"  # peft has folded it

    # The whole model's state_dict keeps the network.
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "adapter/adapter_model.bin")
    config = config_of(tmp_path, folder_of("bert"), name="whole")
    whole = imported(tmp_path, read_peft(tmp_path / "adapter"), config)
    assert whole.metrics["config"]["method"]["reparam"] == ("mlp" if projection else "none")
    other = reopened(whole.directory)
    torch.testing.assert_close(logits_of(other, batch), theirs, atol=1e-5, rtol=0)


def test_a_network_of_another_width_is_folded(tmp_path: Path, folder_of: FolderOf) -> None:
    """Grouped heads: the input of peft's network is K * D wide, ours H."""
    from peft import PrefixTuningConfig, get_peft_model

    base = AutoModel.from_pretrained(folder_of("llama"))
    settings = PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=LENGTH,
        prefix_projection=True,
        encoder_hidden_size=12,
    )
    model = get_peft_model(base, settings)
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "adapter/adapter_model.bin")
    foreign = read_peft(tmp_path / "adapter").suited(32)
    assert foreign.hidden is None
    made = imported(tmp_path, foreign, config_of(tmp_path, folder_of("llama")))
    assert any("folded" in note for note in made.notes)
    assert "no head" in made.warnings[0]
    prompts = reopened(made.directory).learner.method().keys_values
    assert prompts is not None
    for ours, theirs in zip(prompts.values(), model.get_prompt(1).layers, strict=True):
        torch.testing.assert_close(ours[0], theirs.keys, atol=1e-6, rtol=0)
        torch.testing.assert_close(ours[1], theirs.values, atol=1e-6, rtol=0)


# The reference repository


def reference_file(
    folder: Path, backbone: Path, *, projection: bool, body: str = "bert", classes: int = 2
) -> dict[str, Tensor]:
    """A pytorch_model.bin as the repository's trainer writes one; returns its tensors."""
    torch.manual_seed(4)
    model = AutoModel.from_pretrained(backbone)
    tensors = {f"{body}.{name}": value for name, value in model.state_dict().items()}
    tensors[f"{body}.embeddings.position_ids"] = torch.arange(40)[None]
    wide, hidden = 3 * 2 * 32, 12
    if projection:
        embedding, first = nn.Embedding(LENGTH, 32), nn.Linear(32, hidden)
        last = nn.Linear(hidden, wide)
        for at, layer in ((0, first), (2, last)):
            tensors[f"prefix_encoder.trans.{at}.weight"] = layer.weight.detach()
            tensors[f"prefix_encoder.trans.{at}.bias"] = layer.bias.detach()
    else:
        embedding = nn.Embedding(LENGTH, wide)
    tensors["prefix_encoder.embedding.weight"] = embedding.weight.detach()
    tensors["classifier.weight"] = torch.randn(classes, 32)
    tensors["classifier.bias"] = torch.randn(classes)
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "pytorch_model.bin")
    return tensors


def reference_logits(tensors: dict[str, Tensor], backbone: Path, batch: Any) -> Tensor:
    """The repository's forward pass, written out: a cache, then pooler and classifier."""
    table = tensors["prefix_encoder.embedding.weight"]
    if "prefix_encoder.trans.0.weight" in tensors:
        for at in (0, 2):
            weight = tensors[f"prefix_encoder.trans.{at}.weight"]
            table = table @ weight.T + tensors[f"prefix_encoder.trans.{at}.bias"]
            table = table.tanh() if at == 0 else table
    rows = len(batch.input_ids)
    past = table.expand(rows, -1, -1).view(rows, LENGTH, 3 * 2, 4, 8)
    pairs = past.permute(2, 0, 3, 1, 4).split(2)
    model = AutoModel.from_pretrained(backbone).eval()
    inputs = {"input_ids": batch.input_ids}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    with torch.no_grad():
        pooled = model(
            **inputs,
            attention_mask=torch.cat([torch.ones(rows, LENGTH), batch.attention_mask], dim=1),
            past_key_values=DynamicCache([(pair[0], pair[1]) for pair in pairs]),
        ).pooler_output
    return pooled @ tensors["classifier.weight"].T + tensors["classifier.bias"]


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("projection", [False, True])
def test_reference_logits_are_equal(
    tmp_path: Path, folder_of: FolderOf, family: str, projection: bool
) -> None:
    backbone = folder_of(family)
    tensors = reference_file(tmp_path / "theirs", backbone, projection=projection, body=family)
    foreign = read_reference(tmp_path / "theirs")
    config = config_of(tmp_path, backbone, head={"pooling": "pooler"})
    made = imported(tmp_path, foreign.suited(32), config)
    session = reopened(made.directory)
    batch = batch_of(session, tmp_path)
    theirs = reference_logits(tensors, backbone, batch)
    torch.testing.assert_close(logits_of(session, batch), theirs, atol=1e-5, rtol=0)
    assert made.metrics["config"]["method"]["reparam"] == ("mlp" if projection else "none")
    assert any("tensors are those of this one" in note for note in made.notes)


def test_an_imported_run_is_a_run(tmp_path: Path, folder_of: FolderOf) -> None:
    backbone = folder_of("bert")
    reference_file(tmp_path / "theirs", backbone, projection=True)
    config = config_of(tmp_path, backbone)
    made = imported(tmp_path, read_reference(tmp_path / "theirs"), config)
    directory = RunDirectory(made.directory.path)
    reloaded = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in reloaded.evaluate("validation")} == {"equal"}
    lines = directory.predictions("validation").read_text().splitlines()
    assert len(lines) == 6
    assert made.metrics["origin"]["file"] == str(tmp_path / "theirs/pytorch_model.bin")
    with pytest.raises(InputError, match="is not empty"):
        imported(tmp_path, read_reference(tmp_path / "theirs"), config)
    # The same config trained is another run.
    assert tiny.prepared(directory.config, tmp_path / "imported").directory != directory


def test_a_pooler_that_only_the_checkpoint_has(tmp_path: Path, folder_of: FolderOf) -> None:
    tensors = reference_file(tmp_path / "theirs", folder_of("bert"), projection=False)
    bare = altered(tmp_path / "bare", folder_of("bert"), without="pooler.")
    made = imported(tmp_path, read_reference(tmp_path / "theirs"), config_of(tmp_path, bare))
    session = reopened(made.directory)
    batch = batch_of(session, tmp_path)
    theirs = reference_logits(tensors, folder_of("bert"), batch)
    torch.testing.assert_close(logits_of(session, batch), theirs, atol=1e-5, rtol=0)


class _Writes:
    """An object that would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, name: str) -> None:
    folder, victim = tmp_path / "theirs", tmp_path / "victim"
    folder.mkdir()
    torch.save({"prefix_encoder.embedding.weight": _Writes(victim)}, folder / name)
    (folder / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING"}')
    read = read_reference if name.startswith("pytorch") else read_peft
    with pytest.raises(InputError, match="nothing of it was run"):
        read(folder)
    assert not victim.exists()
    torch.load(folder / name, weights_only=False)  # the trap is one
    assert victim.exists()
    victim.unlink()
    (folder / name).write_bytes(pickle.dumps(_Writes(victim)))
    with pytest.raises(InputError):
        read(folder)
    assert not victim.exists()


# What does not fit


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_len": 7}, "prompt_len is 7, but the checkpoint has 5 positions"),
        ({"method": "prompt_tuning"}, "the config's method is prompt_tuning"),
        (
            {"method": {"name": "ptuning_v2", "position_offset": "keep"}},
            "positions after the prompt",
        ),
        ({"method": {"name": "ptuning_v2", "layers": "1-2"}}, "a prompt for every layer"),
        ({"method": {"name": "ptuning_v2", "softmax": "separate"}}, "with softmax: shared"),
        ({"method": {"name": "ptuning_v2", "gates": "apt"}}, "with gates: none"),
        ({"head": {"pooling": "cls"}}, "head.pooling is cls"),
    ],
)
def test_what_does_not_fit_writes_nothing(
    tmp_path: Path, folder_of: FolderOf, changes: dict[str, Any], says: str
) -> None:
    reference_file(tmp_path / "theirs", folder_of("bert"), projection=False)
    config = config_of(tmp_path, folder_of("bert"), **changes)
    with pytest.raises(InputError) as caught:
        imported(tmp_path, read_reference(tmp_path / "theirs"), config)
    assert says in str(caught.value)
    assert all(problem.hint for problem in caught.value.problems)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nudge": "encoder.layer.1.output.dense.weight"}, "1 tensors other than those of this"),
        ({"nudge": "pooler.dense.bias"}, "1 tensors other than those of this"),
        ({"config": {"num_hidden_layers": 2}}, "192 values at each position, the 2 layers"),
    ],
)
def test_another_backbone(
    tmp_path: Path, folder_of: FolderOf, options: dict[str, Any], says: str
) -> None:
    reference_file(tmp_path / "theirs", folder_of("bert"), projection=False)
    other = altered(tmp_path / "other", folder_of("bert"), **options)
    with pytest.raises(InputError, match=says):
        imported(tmp_path, read_reference(tmp_path / "theirs"), config_of(tmp_path, other))
    assert not (tmp_path / "imported").exists()


def test_another_shape(tmp_path: Path, folder_of: FolderOf) -> None:
    reference_file(tmp_path / "theirs", folder_of("bert"), projection=False, classes=3)
    config = config_of(tmp_path, folder_of("bert"))
    with pytest.raises(InputError, match=r"its head is \(3, 32\), that of superglue/rte is"):
        imported(tmp_path, read_reference(tmp_path / "theirs"), config)


def test_a_two_layer_head_is_left_out_and_said(tmp_path: Path, folder_of: FolderOf) -> None:
    from peft import PrefixTuningConfig, get_peft_model

    base = AutoModelForSequenceClassification.from_pretrained(folder_of("roberta"), num_labels=2)
    settings = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH)
    get_peft_model(base, settings).save_pretrained(tmp_path / "adapter")
    made = imported(
        tmp_path, read_peft(tmp_path / "adapter"), config_of(tmp_path, folder_of("roberta"))
    )
    assert any("dense, out_proj" in note for note in made.notes)
    assert "untrained" in made.warnings[0]
    assert made.metrics["warnings"] == list(made.warnings)


@pytest.mark.parametrize(
    "weight",
    [*map(torch.ones, [(), (3,), (3, 32, 1)]), torch.ones(3, 32, dtype=torch.int64)],
    ids=["number", "vector", "cube", "integers"],
)
def test_a_head_of_another_form_is_left_out(tmp_path: Path, weight: Tensor) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    head = {"base_model.classifier.weight": weight}
    tensors = {"prompt_embeddings": torch.ones(LENGTH, 192), **head}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    found = read_peft(tmp_path)
    assert found.head is None
    assert "not one linear layer" in found.notes[0]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_a_prompt_of_no_real_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"prefix_encoder.embedding.weight": torch.ones(LENGTH, 192, dtype=dtype)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=f"prompt has type {dtype}, not real numbers"):
        read_reference(tmp_path)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_peft(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no pytorch_model\.bin"):
        read_reference(tmp_path)
    config = tmp_path / "adapter_config.json"
    for text, says in (
        ("{", "is no JSON"),
        ("[" * 5000, "cannot be read"),
        ("[]", "is not an adapter's config"),
        ('{"num_transformer_submodules": {}}', "num_transformer_submodules: Input should be"),
        ('{"base_model_name_or_path": 3}', "base_model_name_or_path: Input should be"),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=says):
            read_peft(tmp_path)
    config.write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(InputError, match="has the type LORA"):
        read_peft(tmp_path)
    config.write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(b"no tensors at all")
    with pytest.raises(InputError, match="cannot be read"):
        read_peft(tmp_path)
    save_file({"lora_A": torch.zeros(2)}, file)
    with pytest.raises(InputError, match="has no prompt_embeddings; it has lora_A"):
        read_peft(tmp_path)
    torch.save({"bert.x": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="has no prefix_encoder"):
        read_reference(tmp_path)
    for content in ([torch.zeros(2)], {3: torch.zeros(2)}, {b"bert.x": torch.zeros(2)}):
        torch.save(content, tmp_path / "pytorch_model.bin")
        with pytest.raises(InputError, match="does not map names to tensors"):
            read_reference(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError):
        read_reference(tmp_path)
    torch.save(
        {
            "prefix_encoder.embedding.weight": torch.zeros(5, 32),
            "prefix_encoder.trans.0.weight": torch.zeros(12, 31),
            "prefix_encoder.trans.0.bias": torch.zeros(12),
            "prefix_encoder.trans.2.weight": torch.zeros(192, 12),
            "prefix_encoder.trans.2.bias": torch.zeros(192),
        },
        tmp_path / "pytorch_model.bin",
    )
    with pytest.raises(InputError, match="do not fit together"):
        read_reference(tmp_path)
