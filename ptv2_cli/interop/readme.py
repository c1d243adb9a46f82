"""The README.md of an exported adapter: Python code that loads and uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ptv2_cli.interop.stock_models import StockHead
from ptv2_cli.kinds import KindSpec

_POOLED = {
    "pooler": 'torch.tanh(linear(hidden[:, 0], head["pooler.weight"], head["pooler.bias"]))',
    "cls": "hidden[:, 0]",
    "mean": "(hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)",
    "last": "hidden[range(len(mask)), (mask * torch.arange(mask.shape[1])).argmax(dim=1)]",
}


@dataclass(frozen=True)
class Assembly:
    """What the Python code depends on."""

    run: str
    folder: str
    base: str
    revision: str | None
    kind: KindSpec
    labels: tuple[str, ...]
    stock: StockHead | None
    """Transformers' class with a head; None: the head has its own file."""
    pooling: str | None
    length: int
    in_input: bool
    """Whether the prompt takes up positions of the text."""
    segments: bool
    """Whether the model reads token types, which some of PEFT's classes drop."""
    attention: str | None
    """The form of attention of the run, if the model has several."""
    merged: bool = False
    """Whether the folder holds a whole model, and not an adapter."""
    repo: str | None = None
    """The repository on the hub that gets the folder; None: none."""

    @property
    def fetching(self) -> str:
        """The line of code that says where the folder is."""
        if self.repo is None:
            return f"folder = {_quoted(self.folder)}"
        return f"folder = huggingface_hub.snapshot_download({_quoted(self.repo)})"

    @property
    def library(self) -> str:
        """What loads the folder."""
        return "transformers" if self.merged else "PEFT"


def readme(assembly: Assembly) -> str:
    """The file's text."""
    code = "\n".join(_code(assembly))
    return f"""# {assembly.run}, exported by ptv2 for {assembly.library}

For `batch = tokenizer(..., return_tensors="pt", padding=True)`, `logits(batch)` returns the logits
of the run in fp32: {_shape_of_logits(assembly)}

```python
{code}
```
"""


def writing_readme(assembly: Assembly, settings: Mapping[str, Any], *, chat: bool) -> str:
    """The file's text for a model that writes.

    Args:
        assembly: what the code depends on.
        settings: options of transformers' `generate`.
        chat: whether the model's chat template writes its texts.
    """
    form = "with the words of the run's template"
    if chat:
        form = "as tokenizer.apply_chat_template writes messages"
    two_stacks = "decoder_start_token_id" in settings
    auto = "AutoModelForSeq2SeqLM" if two_stacks else "AutoModelForCausalLM"
    begin = "1" if two_stacks else 'batch["input_ids"].shape[1]'
    hub = "" if assembly.repo is None else "import huggingface_hub\n"
    peft = "" if assembly.merged else "from peft import PeftModel\n"
    model = "base" if assembly.merged else "PeftModel.from_pretrained(base, folder)"
    special = ", add_special_tokens=False" if chat else ""
    revision = "" if assembly.revision is None else f", revision={_quoted(assembly.revision)}"
    drawn = ""
    if settings["do_sample"]:
        drawn = "\nTokens are drawn, so the texts are not those of the run; torch.manual_seed(1) "
        drawn += "repeats them.\n"
    options = "".join(f"    {key}={value!r},\n" for key, value in sorted(settings.items()))
    return f"""# {assembly.run}, exported by ptv2 for {assembly.library}

`write(text)` returns what the run writes after a text, in fp32. The text is the whole input,
{form}.
{drawn}
```python
{hub}import torch
{peft}from transformers import {auto}, AutoTokenizer, GenerationConfig

{assembly.fetching}
name = {_quoted(assembly.base)}
tokenizer = AutoTokenizer.from_pretrained(name{revision})
base = {auto}.from_pretrained(name{revision}, dtype=torch.float32)
base.generation_config = GenerationConfig()
model = {model}.eval()
settings = GenerationConfig(
{options})


@torch.no_grad()
def write(text):
    batch = tokenizer(text, return_tensors="pt"{special}, return_token_type_ids=False)
    written = model.generate(**batch, generation_config=settings)[0]
    own = written[{begin} :]
    return tokenizer.decode(own, skip_special_tokens=True).strip()
```
"""


def _shape_of_logits(assembly: Assembly) -> str:
    assert assembly.kind.peft is not None
    what = f"{assembly.kind.peft.logits}."
    if assembly.stock is None and assembly.segments:
        what += "\nPEFT's class drops token types, so the base model is called with PEFT's prompt."
    return what


def _code(assembly: Assembly) -> Iterator[str]:
    auto = "AutoModel" if assembly.stock is None else assembly.stock.model
    if assembly.repo is not None:
        yield "import huggingface_hub"
    yield "import torch"
    if not assembly.merged:
        yield "from peft import PeftModel"
    if assembly.stock is None:
        yield "from safetensors.torch import load_file"
        yield "from torch.nn.functional import linear"
    yield f"from transformers import {auto}, AutoTokenizer"
    yield ""
    yield assembly.fetching
    yield f"name = {_quoted(assembly.base)}"
    if assembly.labels:
        yield f"labels = [{', '.join(map(_quoted, assembly.labels))}]"
    revision = "" if assembly.revision is None else f", revision={_quoted(assembly.revision)}"
    yield f"tokenizer = AutoTokenizer.from_pretrained(name{revision})"
    yield f"options = {{{_options(assembly)}}}"
    yield f"base = {auto}.from_pretrained(name{revision}, **options)"
    model = "base" if assembly.merged else "PeftModel.from_pretrained(base, folder)"
    yield f"model = {model}.eval()"
    if assembly.stock is None:
        yield 'head = load_file(f"{folder}/head.safetensors")'
    yield ""
    yield ""
    yield "@torch.no_grad()"
    yield "def logits(batch):"
    lines = _features(assembly) if assembly.stock is None else _whole(assembly)
    yield from (f"    {line}" for line in lines)


def _options(assembly: Assembly) -> str:
    """Options of the class with a head: type, attention and labels."""
    options = ['"dtype": torch.float32']
    if assembly.attention is not None:
        options.append(f'"attention_type": {_quoted(assembly.attention)}')
    if assembly.stock is not None and assembly.labels:
        options.append('"id2label": dict(enumerate(labels))')
    elif assembly.stock is not None and assembly.kind.answer == "number":
        options.append('"num_labels": 1')
    return ", ".join(options)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _whole(assembly: Assembly) -> Iterator[str]:
    if assembly.kind.answer == "text":
        yield "found = model(**batch)"
        yield "return torch.stack([found.start_logits, found.end_logits], dim=-1)"
    else:
        yield "return model(**batch).logits"


def _features(assembly: Assembly) -> Iterator[str]:
    yield 'mask = batch["attention_mask"]'
    if assembly.segments:
        yield from _segments(assembly)
    else:
        yield "hidden = model(**batch).last_hidden_state"
    if assembly.in_input:
        yield f"hidden = hidden[:, {assembly.length}:]  # the text's own tokens"
    if not assembly.kind.pooled:
        yield 'return linear(hidden, head["weight"], head["bias"])'
    else:
        yield f"vector = {_POOLED[assembly.pooling or 'cls']}"
        yield 'return linear(vector, head["weight"], head["bias"])'


def _segments(assembly: Assembly) -> Iterator[str]:
    yield "rows = len(mask)"
    yield f"seen = torch.cat([mask.new_ones(rows, {assembly.length}), mask], dim=1)"
    if assembly.in_input:
        yield "prompt = model.get_prompt(rows)"
        yield 'words = base.get_input_embeddings()(batch["input_ids"])'
        yield 'types = batch["token_type_ids"]'
        yield f"types = torch.cat([types.new_zeros(rows, {assembly.length}), types], dim=1)"
        yield "words = torch.cat([prompt, words], dim=1)"
        yield "found = base(inputs_embeds=words, attention_mask=seen, token_type_ids=types)"
        yield "hidden = found.last_hidden_state"
    else:
        yield 'inputs = {**batch, "attention_mask": seen}'
        yield "found = base(**inputs, past_key_values=model.get_prompt(rows))"
        yield "hidden = found.last_hidden_state"
