"""Silence for transformers while it loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' own reports; what matters of them is turned into our messages."""
    log = transformers.logging
    level = log.get_verbosity()
    log.set_verbosity_error()
    bars = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
