"""Conversations as a model's own chat template writes them, and the answer that goes on from one.

The template is the tokenizer's: Jinja text that comes with the model. It writes all messages and
the signs between them, so nothing else is put around them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ptv2_cli.errors import ConfigError

Message = Mapping[str, Any]
"""`role`, `content`, and whatever else the template reads."""
WHERE = "task.messages"


class Refused(ValueError):
    """The chat template does not take these messages; the text says why."""


class ChatTemplate:
    """The chat template of a tokenizer.

    Raises:
        ConfigError: it has none.
    """

    def __init__(self, tokenizer: Any, backbone: str) -> None:
        self._tokenizer = tokenizer
        self.backbone = backbone
        self.source = tokenizer.chat_template
        if not self.source:
            raise ConfigError.at(
                WHERE,
                f"the tokenizer of {backbone} has no chat template, which says how messages become "
                "text",
                "name a model that was tuned for chat; or write input: and output: columns",
            )

    @property
    def identity(self) -> str:
        """All that decides how it writes messages."""
        tokens = {name: str(token) for name, token in self._tokenizer.special_tokens_map.items()}
        return json.dumps([self.source, tokens], sort_keys=True, default=str)

    def question(self, messages: Sequence[Message]) -> str:
        """The messages, and the signs after which an answer begins.

        Raises:
            Refused: the template does not take them.
        """
        return self._written(messages, add_generation_prompt=True)

    def answer(self, messages: Sequence[Message], question: str, text: str) -> str:
        """What follows `question`, that of the messages, where `text` is the answer.

        Raises:
            Refused: the template writes an answered conversation in another way.
        """
        whole = self._written([*messages, {"role": "assistant", "content": text}])
        if not whole.startswith(question):
            raise Refused(
                "an answered conversation does not begin as the unanswered one: what the model "
                "learns to write would not be what it is asked for"
            )
        return whole[len(question) :]

    @cached_property
    def _end(self) -> str:
        """What it writes behind an answer, such as `<|im_end|>` and a line break."""
        asked, text = [{"role": "user", "content": "x"}], "abc"
        try:
            return self.answer(asked, self.question(asked), text).rpartition(text)[2]
        except Refused:  # each row's own error says more
            return ""

    @cached_property
    def end_token(self) -> int | None:
        """The token that ends an answer; None: it is no token of its own."""
        added = set(self._tokenizer.get_added_vocab().values())
        ids = self._tokenizer(self._end, add_special_tokens=False, verbose=False)["input_ids"]
        return next((int(token) for token in ids if token in added), None)

    def _written(self, messages: Sequence[Message], **options: Any) -> str:
        plain = [dict(message) for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(plain, tokenize=False, **options)
        except Exception as error:  # of any type: the template is a program
            first = str(error).partition("\n")[0] or type(error).__name__
            raise Refused(first) from error
        return str(text)
