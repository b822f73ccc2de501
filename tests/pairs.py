"""Fewer cases than all combinations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def in_turn(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Return every pair: each of *first* with one of *second*, in turn, always runs; the others are campaigns."""
    return [
        pytest.param(one, other, marks=() if number % len(second) == at else pytest.mark.campaign)
        for number, one in enumerate(first)
        for at, other in enumerate(second)
    ]
