"""A file of vectors that is cut short while a collection is open: the system ends whoever touches what is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk

D, ROWS = 64, 4000

_CUT = f"""
import os, sys
import numpy as np, reperio
root, mode = sys.argv[1:]
kb = reperio.open(root, read_only=mode == "read", auto_optimize=False)
vector = np.ones({D}, dtype=np.float32)
calls = {{
    "search": lambda: kb.search(vector=vector, k=5),
    "many": lambda: kb.search_many(vectors=[vector], k=5),
    "filtered": lambda: kb.search(vector=vector, k=5, where={{"n": 1}}),
    "hybrid": lambda: kb.search("text 7", vector=vector, mode="hybrid"),
    "get": lambda: kb.get("c{ROWS - 1}"),
    "vectors": lambda: kb.vectors(["c{ROWS - 1}"]),
    "iteration": lambda: list(kb),
}}
for call in calls.values():
    call(), call()
os.truncate(os.path.join(root, "gen-000001", "vectors.f32"), {ROWS * D})
for name, call in calls.items():
    try:
        call()
        print(name, "answered")
    except reperio.CollectionDamaged as error:
        print(name, "damaged", "are committed" in str(error))
print("check", kb.check().ok)
"""


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_file_of_vectors_that_is_cut_short_is_damage_to_the_next_call(mode: str, tmp_path: Path) -> None:
    """Each call that begins after the cut says `CollectionDamaged`; the process lives."""
    root = tmp_path / "kb"
    vectors = np.random.default_rng(1).standard_normal((ROWS, D))
    with reperio.open(root, dimension=D, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{i}", f"text {i}", {"n": i % 10}) for i in range(ROWS)], vectors=vectors)
    ran = subprocess.run(
        [sys.executable, "-c", _CUT, str(root), mode], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, (ran.returncode, ran.stdout, ran.stderr)
    *calls, check = ran.stdout.splitlines()
    assert [line.partition(" ")[2] for line in calls] == ["damaged True"] * 7
    assert check == "check False"
