"""What runs that are prepared together read once: splits, backbone files, tokenizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


class Memo:
    """Values by a key that says all they depend on. Do not change a value that it gives."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], _T]) -> _T:
        """What was made for an equal key before, else what `make` gives; its errors pass."""
        text = repr(key)
        if text not in self._held:
            self._held[text] = make()
        held: _T = self._held[text]
        return held
