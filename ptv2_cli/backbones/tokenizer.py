"""Load the tokenizer of a located backbone, without the code of its model.

That code takes 130 MB of memory and a second or two to import; `ptv2 check` does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.backbones.quiet import quiet
from ptv2_cli.errors import BackboneError

if TYPE_CHECKING:
    from ptv2_cli.config.schema import BackboneSection

TOKENIZER_FILES = (
    "copy all of the tokenizer's files (tokenizer.json and the like) beside config.json"
)


def load_tokenizer(located: Located, section: BackboneSection, *, words: bool) -> Any:
    """The backbone's fast tokenizer; `words`: its input will be split into words.

    Raises:
        BackboneError: the folder has no tokenizer that can be loaded, or one whose tokens do not
            fit the model's embeddings.
    """
    from transformers import AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": section.trust_remote_code}
    if words:  # byte-level tokenizers mark the start of a word by a leading space
        options["add_prefix_space"] = True
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(located.folder, use_fast=True, **options)
            tokenizer("a", "b", verbose=False)  # some wrong settings fail only at the first text
    except Exception as error:
        raise unusable(located, "tokenizer", error, TOKENIZER_FILES) from error
    _check_vocabulary(located, tokenizer)
    if tokenizer.pad_token_id is None:  # decoder-only models have none; the mask hides it anyway
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_vocabulary(located: Located, tokenizer: Any) -> None:
    """Check that the tokenizer has words, and that the embeddings have a row for each token.

    If its files are missing, transformers makes a tokenizer of special tokens that knows no word.
    More rows than tokens are common, because tables are padded.
    """
    where = f"backbone {located.name}"
    vocabulary = tokenizer.get_vocab()
    ordinary = (
        set(vocabulary) - set(tokenizer.get_added_vocab()) - set(tokenizer.all_special_tokens)
    )
    if len(ordinary) < 2:  # sentencepiece's mark of a space may be the only one
        what = f"{located.folder} has no tokenizer: its vocabulary has no words"
        raise BackboneError.at(where, what, TOKENIZER_FILES)
    rows = located.config.get("vocab_size")
    token, last = max(vocabulary.items(), key=lambda item: item[1])
    if isinstance(rows, int) and last >= rows:
        raise BackboneError.at(
            where,
            f"its tokenizer does not fit the model: token {token!r} has id {last}, and the "
            f"embeddings have {rows} rows (vocab_size in config.json)",
            "copy the tokenizer's files and the weights from the same checkpoint",
        )


def unusable(located: Located, what: str, error: Exception, hint: str) -> BackboneError:
    """The error of files that transformers does not load; `hint`: what to do."""
    first = (str(error).strip().splitlines() or [""])[0]
    return BackboneError.at(
        f"backbone {located.name}",
        f"its {what} cannot be loaded from {located.folder}: {first or type(error).__name__}",
        hint,
    )
