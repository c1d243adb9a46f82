"""The README.md beside an exported adapter: the lines of Python that load and use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

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
    """What the lines of Python depend on."""

    run: str
    folder: str
    base: str
    revision: str | None
    kind: KindSpec
    labels: tuple[str, ...]
    stock: StockHead | None
    """Transformers' class with a head; None: the head stands apart."""
    pooling: str | None
    length: int
    in_input: bool
    """Whether the prompt takes up positions of the text."""
    segments: bool
    """Whether the model reads token types, which some of PEFT's classes drop."""
    attention: str | None
    """The form of attention that the run had, where the model has several."""


def readme(made: Assembly) -> str:
    """The file's text."""
    code = "\n".join(_code(made))
    return f"""# {made.run}, exported by ptv2 for PEFT

`logits(batch)` of `batch = tokenizer(..., return_tensors="pt", padding=True)` gives what the run
gives, in fp32: {_says(made)}

```python
{code}
```
"""


def _says(made: Assembly) -> str:
    assert made.kind.peft is not None
    what = f"{made.kind.peft.logits}."
    if made.stock is None and made.segments:
        what += "\nPEFT's class drops token types, so the base model is called with PEFT's prompt."
    return what


def _code(made: Assembly) -> Iterator[str]:
    auto = "AutoModel" if made.stock is None else made.stock.model
    yield "import torch"
    yield "from peft import PeftModel"
    if made.stock is None:
        yield "from safetensors.torch import load_file"
        yield "from torch.nn.functional import linear"
    yield f"from transformers import {auto}, AutoTokenizer"
    yield ""
    yield f"folder = {_quoted(made.folder)}"
    yield f"name = {_quoted(made.base)}"
    if made.labels:
        yield f"labels = [{', '.join(map(_quoted, made.labels))}]"
    revision = "" if made.revision is None else f", revision={_quoted(made.revision)}"
    yield f"tokenizer = AutoTokenizer.from_pretrained(name{revision})"
    yield f"options = {{{_options(made)}}}"
    yield f"base = {auto}.from_pretrained(name{revision}, **options)"
    yield "model = PeftModel.from_pretrained(base, folder).eval()"
    if made.stock is None:
        yield 'head = load_file(f"{folder}/head.safetensors")'
    yield ""
    yield ""
    yield "@torch.no_grad()"
    yield "def logits(batch):"
    lines = _features(made) if made.stock is None else _whole(made)
    yield from (f"    {line}" for line in lines)


def _options(made: Assembly) -> str:
    """What the class with a head is to know of the labels."""
    options = ['"dtype": torch.float32']
    if made.attention is not None:
        options.append(f'"attention_type": {_quoted(made.attention)}')
    if made.stock is not None and made.labels:
        options.append('"id2label": dict(enumerate(labels))')
    elif made.stock is not None and made.kind.answer == "number":
        options.append('"num_labels": 1')
    return ", ".join(options)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _whole(made: Assembly) -> Iterator[str]:
    if made.kind.answer == "text":
        yield "found = model(**batch)"
        yield "return torch.stack([found.start_logits, found.end_logits], dim=-1)"
    else:
        yield "return model(**batch).logits"


def _features(made: Assembly) -> Iterator[str]:
    yield 'mask = batch["attention_mask"]'
    if made.segments:
        yield from _segments(made)
    else:
        yield "hidden = model(**batch).last_hidden_state"
    if made.in_input:
        yield f"hidden = hidden[:, {made.length}:]  # the text's own tokens"
    if not made.kind.pooled:
        yield 'return linear(hidden, head["weight"], head["bias"])'
    else:
        yield f"vector = {_POOLED[made.pooling or 'cls']}"
        yield 'return linear(vector, head["weight"], head["bias"])'


def _segments(made: Assembly) -> Iterator[str]:
    yield "rows = len(mask)"
    yield f"seen = torch.cat([mask.new_ones(rows, {made.length}), mask], dim=1)"
    if made.in_input:
        yield "prompt = model.get_prompt(rows)"
        yield 'words = base.get_input_embeddings()(batch["input_ids"])'
        yield 'types = batch["token_type_ids"]'
        yield f"types = torch.cat([types.new_zeros(rows, {made.length}), types], dim=1)"
        yield "words = torch.cat([prompt, words], dim=1)"
        yield "found = base(inputs_embeds=words, attention_mask=seen, token_type_ids=types)"
        yield "hidden = found.last_hidden_state"
    else:
        yield 'inputs = {**batch, "attention_mask": seen}'
        yield "found = base(**inputs, past_key_values=model.get_prompt(rows))"
        yield "hidden = found.last_hidden_state"
