"""What experiments that are prepared together read once: splits, backbone files, features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


class Shelf:
    """Values by a key that says all they depend on. What lies here is not to be changed."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], _T]) -> _T:
        """What was made for an equal key before, else what `make` gives; its errors pass."""
        text = repr(key)
        if text not in self._held:
            self._held[text] = make()
        held: _T = self._held[text]
        return held
