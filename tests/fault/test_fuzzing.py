from __future__ import annotations

import pytest

from .fuzzing import TARGETS, fuzz

EXAMPLES = 150


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_random_input_is_read_or_refused_in_words(target: str) -> None:
    """What reads filters, questions and files meets random input with a result or a typed error, never another one."""
    assert fuzz(target, 0, EXAMPLES)[target] == EXAMPLES
