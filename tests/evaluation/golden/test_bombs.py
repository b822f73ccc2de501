"""Golden sets that are small and come to much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reperio.errors import InvalidInput
from reperio.evaluation import read_golden
from reperio.evaluation.baseline import read_baseline

_LAUGH = "l0: &l0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
_MERGED = "x0: &x0 {a: 1}\n" + "".join(f"x{n}: &x{n} {{<<: [{','.join([f'*x{n - 1}'] * 10)}]}}\n" for n in range(1, 9))
_WITHIN = "queries:\n- query: x\n  expect: [a]\n  where:\n    "

BOMBS = {
    "aliases of aliases": _LAUGH + "queries: []\n",
    "aliases in a filter": _WITHIN + _LAUGH.replace("\n", "\n    ") + "\n",
    "merged mappings": _MERGED + "queries:\n- query: x\n  expect: [a]\n",
    "one long text named often": f"t: &t {'x' * 100_000}\nqueries:\n- query: [{','.join(['*t'] * 5000)}]\n",
    "a number to the base 60": "queries:\n- query: x\n  expect: {a: " + "1:" * 50_000 + "1}\n",
    "a long number": "queries:\n- query: x\n  expect: {a: " + "9" * 100_000 + "}\n",
    "numbers that collide": _WITHIN + "{" + ",".join(f"{n * ((1 << 61) - 1)}: 1" for n in range(1, 20_000)) + "}\n",
    "a date that is none": _WITHIN + "a: 2001-99-99\n",
    "lists in lists": "queries: " + "[" * 100_000,
}
_CHILD = """
import json, resource, sys
from reperio.evaluation import read_golden
from reperio.errors import InvalidInput
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for path in json.loads(sys.argv[1]):
    try:
        read_golden(path)
    except InvalidInput as error:
        assert len(str(error)) < 1000
        print(path, flush=True)
"""


def test_a_small_golden_set_is_refused_before_it_is_large(tmp_path: Path) -> None:
    """Aliases of aliases, merged mappings, long numbers and colliding keys are refused in words, in little memory."""
    paths = [str(tmp_path / f"{number}.yaml") for number in range(len(BOMBS))]
    for path, text in zip(paths, BOMBS.values(), strict=True):
        Path(path).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, json.dumps(paths)],
        capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.split() == paths, done.stderr


def test_aliases_within_reason_are_read(tmp_path: Path) -> None:
    """An alias for a filter, a merged mapping, and a key that overrides a merged one, are what YAML has them for."""
    path = tmp_path / "golden.yaml"
    path.write_text(
        "queries:\n- {query: one, expect: [a], where: &w {lang: en}}\n- {query: two, expect: [b], where: *w}\n"
        "- {query: three, expect: [c], where: {<<: *w, year: 2020}}\n"
        "- {query: four, expect: [d], where: {<<: *w, lang: de}}\n"
    )
    found = [query.where for query in read_golden(path).queries]
    assert found == [{"lang": "en"}, {"lang": "en"}, {"lang": "en", "year": 2020}, {"lang": "de"}]


def test_the_second_of_many_equal_keys_is_found_at_once(tmp_path: Path) -> None:
    """A line of JSON with many keys, the last of them twice, is refused by its name."""
    path = tmp_path / "golden.jsonl"
    keys = ",".join(f'"{number}":0' for number in range(300_000))
    path.write_text(f'{{"query":"x",{keys},"299999":0}}')
    with pytest.raises(InvalidInput, match="the key '299999' comes twice"):
        read_golden(path)


def test_a_nested_baseline_and_one_that_is_no_file_are_refused(tmp_path: Path) -> None:
    """A baseline nested a hundred thousand levels deep, and a named pipe, are errors in words."""
    path = tmp_path / "golden.baseline.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InvalidInput, match="no valid JSON"):
        read_baseline(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidInput, match="a named pipe"):
        read_baseline(path)
