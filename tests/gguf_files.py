"""Tiny language models, and GGUF files of them written as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
import transformers
from torch import Tensor

LAYERS = 2
_LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 160,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "tie_word_embeddings": True},
    "qwen2": {**_LLAMA, "tie_word_embeddings": False},
    "qwen3": {**_LLAMA, "head_dim": 128, "tie_word_embeddings": True},
    "gpt2": {
        "n_embd": 32,
        "n_layer": LAYERS,
        "n_head": 4,
        "n_positions": 1024,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
}
TEMPLATE = "{% for message in messages %}<s>{{ message.content }}</s>{% endfor %}"


def save_model(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """Save a random language model of a family with its tokenizer; returns the folder."""
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    tokenizer.chat_template = TEMPLATE
    sizes = {**CONFIGS[family], "vocab_size": len(tokenizer), **changes}
    config = transformers.AutoConfig.for_model(family, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, 0.0, 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_gguf(
    path: Path,
    folder: Path,
    kind: str = "F32",
    *,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write the model and the tokenizer of a folder as a GGUF file.

    Args:
        path: the file.
        folder: what `save_model` made.
        kind: how matrices are stored: F32, F16, BF16, Q8_0, Q4_1 and so on; vectors stay F32.
        metadata: more keys, or other values of keys.
        tensors: more tensors by their GGUF names.
        without: metadata keys and tensors that are left out.
    """
    import gguf

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    family = config.model_type
    writer = gguf.GGUFWriter(None, family)
    for key, value in {**_metadata(config), **_tokenizer(folder), **(metadata or {})}.items():
        if key not in without:
            _add(writer, key, value)
    quantization = gguf.GGMLQuantizationType[kind]
    for name, value in {**stored_tensors(model), **(tensors or {})}.items():
        if name in without:
            continue
        array = value.float().numpy()
        if array.ndim == 1:
            writer.add_tensor(name, array)
            continue
        data = gguf.quantize(np.ascontiguousarray(array), quantization)
        writer.add_tensor(name, data, raw_dtype=quantization)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored_tensors(model: Any) -> dict[str, Tensor]:
    """The tensors of a model by their GGUF names, in GGUF's order of rows and columns."""
    import gguf

    config, family = model.config, model.config.model_type
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(arch, LAYERS)
    tied = getattr(model, "all_tied_weights_keys", {})
    stored = {}
    for name, value in model.state_dict().items():
        if name not in tied:
            stem, _, end = name.rpartition(".")
            stored[f"{names.get_name(stem)}.{end}"] = _as_stored(family, config, name, value)
    return stored


def _as_stored(family: str, config: Any, name: str, value: Tensor) -> Tensor:
    if family == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        pairs = value.reshape(heads, 2, value.shape[0] // heads // 2, value.shape[1])
        return pairs.swapaxes(1, 2).reshape(value.shape)
    if family == "gpt2" and name.endswith("weight") and ".c_" in name:
        return value.T
    return value


def _metadata(config: Any) -> dict[str, Any]:
    family = config.model_type
    keys: dict[str, Any] = {
        "context_length": getattr(config, "max_position_embeddings", 160),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
    }
    if family == "gpt2":
        keys["feed_forward_length"] = 4 * config.hidden_size
        keys["attention.layer_norm_epsilon"] = config.layer_norm_epsilon
    else:
        keys["feed_forward_length"] = config.intermediate_size
        keys["attention.head_count_kv"] = config.num_key_value_heads
        keys["attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
        keys["rope.freq_base"] = float(config.rope_parameters["rope_theta"])
        keys["rope.dimension_count"] = config.hidden_size // config.num_attention_heads
    return {f"{family}.{key}": value for key, value in keys.items()}


def _tokenizer(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {item["content"]: item["id"] for item in content["added_tokens"]}
    vocabulary = {**content["model"]["vocab"], **added}
    special = {*added, "<s>", "</s>"}
    tokens = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in content["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": vocabulary["<s>"],
        "tokenizer.ggml.eos_token_id": vocabulary["</s>"],
        "tokenizer.chat_template": TEMPLATE,
    }


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)
