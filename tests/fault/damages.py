"""Damage to the files of a collection, told by a number, and the process that looks at what comes of it.

Run as ``python -m tests.fault.damages JOURNAL ORIGINAL OTHER SCRATCH``, with one damage per line (JSON) on standard
input. Each is done to a fresh copy of ORIGINAL. The journal gets a line before, and the verdict as JSON after, so that
a crash is a finding about the damage in the last line. The address space is limited: a length in a damaged header that
FAISS or SQLite believed would end the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import reperio
from reperio import Chunk, Collection, CollectionDamaged, CollectionError, InvalidVectors, UnsupportedFormat
from tests.crash.examiner import damaged_state
from tests.crash.plan import State
from tests.crash.processes import ENVIRONMENT, Run
from tests.crash.verification import check_answers

SNAPSHOT, DATABASE, VECTORS = "gen-*/index/snapshot-*", "gen-*/chunks.db", "gen-*/vectors.f32"
SETTINGS = "gen-*/collection.json"
MEMORY = 6 << 30
"""Bytes of address space; half of it is what numpy, FAISS and their threads reserve."""

_LIMIT = 240  # seconds for one process
_KINDS = ("bit", "byte", "block", "zeros", "truncate", "append", "swap", "header")
_HEADERS = (b"IxFI", b"IxF2", b"IxPq", b"IwFl", b"IwPQ", b"IwFs", b"IHNf", b"IxMp", b"IxPT", b"IxRF", b"\0\0\0\0")


def make_original(directory: Path, stop: int = 5) -> Path:
    """Make a collection with an index, a tail, replaced and deleted chunks: the scripted life up to *stop*."""
    directory.mkdir(parents=True, exist_ok=True)
    run = Run(directory, "scripted", stop=stop)
    assert run.start().wait() == 0, run.stderr()
    return run.collection


def damage(original: Path, file: str, number: int) -> dict[str, Any]:
    """Return damage *number* of a file: its kind, its place, and the seed of what is put there."""
    (path,) = original.glob(file)
    rng = random.Random(f"{file}/{number}")
    kind = _KINDS[number % len(_KINDS)] if file == SNAPSHOT else _KINDS[number % 5]
    return {"file": file, "kind": kind, "at": rng.randrange(path.stat().st_size), "seed": number}


def inflict(path: Path, other: Path, *, kind: str, at: int, seed: int) -> None:
    """Damage a file; *other* is the same file of another collection."""
    rng = random.Random(seed)
    before = path.read_bytes()
    content = bytearray(before)
    if kind == "bit":
        content[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        content[at] ^= rng.randrange(1, 256)
    elif kind in ("block", "zeros"):
        length = min(rng.choice((16, 512, 4096)), len(content) - at)
        content[at : at + length] = rng.randbytes(length) if kind == "block" else bytes(length)
    elif kind == "truncate":
        del content[at:]
    elif kind == "append":
        content += rng.randbytes(rng.randint(1, 9000))
    elif kind == "swap":
        content = bytearray(other.read_bytes())
    else:  # the magic of some FAISS class, then lengths that nobody has
        lengths = [rng.choice((0, 1, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)) for _ in range(8)]
        content[: 4 + 64] = rng.choice(_HEADERS) + struct.pack("<8Q", *lengths)
    path.write_bytes(content)


def examine(damages: Sequence[dict[str, Any]], originals: Sequence[Path], scratch: Path) -> Counter[str]:
    """Do each damage to a copy of the first of *originals* and look, in one process of limited memory.

    Returns:
        The verdicts by kind of damage: refused, reported and what became of mending it, or intact.

    Raises:
        AssertionError: the process died, or an answer was wrong; with the damage.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    journal = scratch / "journal"
    paths = [str(journal), *map(str, originals), str(scratch / "kb")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.damages", *paths],
        input="".join(json.dumps(each) + "\n" for each in damages),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert done.returncode == 0, f"status {done.returncode} at {lines[-1]}\n{done.stderr[-3000:]}"
    assert len(lines) == 2 * len(damages)
    shutil.rmtree(scratch)
    return Counter(f"{one['kind']}: {verdict}" for one, verdict in zip(lines[::2], lines[1::2], strict=True))


def main(journal: str, original: str, other: str, scratch: str) -> None:
    """Look at one damage per line of standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with open(journal, "w") as out:
        for line in sys.stdin:
            print(line.strip(), file=out, flush=True)
            told = json.loads(line)
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(original, scratch)
            (path,), (stranger,) = Path(scratch).glob(told["file"]), Path(other).glob(told["file"])
            changed = path.read_bytes()
            inflict(path, stranger, kind=told["kind"], at=told["at"], seed=told["seed"])
            same = path.read_bytes() == changed
            one_row = told["file"] == VECTORS and told["kind"] in ("bit", "byte")
            verdict = _verdict(Path(scratch), told["file"], same=same, most=1 if one_row else None)
            print(json.dumps(verdict), file=out, flush=True)


def _verdict(root: Path, file: str, *, same: bool, most: int | None) -> str:
    """Open as a reader, check, and search for every chunk; *most* is how many chunks mending may cost."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            kb = reperio.open(root, read_only=True)
        except (CollectionDamaged, UnsupportedFormat):
            assert file != SNAPSHOT, "an index that is damaged costs no chunk"
            assert not same
            return "refused"
        with kb:
            sound = _is_sound(kb)
            _require_answers(kb)
    if file == SNAPSHOT:
        assert sound == same, "a snapshot that is not the one recorded is reported"
        assert same or any(issubclass(warning.category, reperio.ReperioWarning) for warning in caught)
        return "intact" if same else "refused and searched exactly"
    return "intact" if sound else f"reported, {_mended(root, most)}"


def _mended(root: Path, most: int | None) -> str:
    """Require of check(fix=True) that what it keeps is whole, and that it lists as many as it does not keep."""
    state = damaged_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", reperio.ReperioWarning)
        try:
            kb = reperio.open(root, auto_optimize=False)
        except CollectionError:
            return "not to be opened for mending"
        with kb:
            try:
                report = kb.check(fix=True)
            except CollectionDamaged:
                return "not to be mended"
            kept = {chunk.id: (chunk.text, chunk.metadata) for chunk in kb}
            for key, found in kept.items():
                assert found == (state[key].text, state[key].metadata), f"{key} was kept as {found}"
            check_answers(kb, {key: state[key] for key in kept})
            missing = state.keys() - kept.keys()
            assert most is None or len(missing) <= most, f"{sorted(missing)} are gone"
            assert len(report.lost) >= len(missing), f"{sorted(missing)} are gone, listed are {report.lost}"
            assert kb.check().ok, kb.check().problems
            return "mended without loss" if not missing else "mended with loss"


def _is_sound(kb: Collection) -> bool:
    try:
        return kb.check().ok
    except CollectionError:
        return False


def _require_answers(kb: Collection) -> None:
    """Search for every chunk, and get it: whatever comes is as it was stored; a refusal in words is no answer."""
    state = damaged_state()
    for key, item in state.items():
        with contextlib.suppress(CollectionError, InvalidVectors):  # the latter: the dimension that is read is damaged
            for hit in kb.search(vector=item.vector, k=3):
                _require_stored(hit.chunk, state)
                score = float(state[hit.chunk.id].vector @ item.vector)
                assert abs(hit.score - score) < 1e-4, f"{key} found {hit}, whose score should be {score}"
        with contextlib.suppress(CollectionError):
            for chunk in kb.get([key]):
                _require_stored(chunk, state)


def _require_stored(chunk: Chunk, state: State) -> None:
    expected = state.get(chunk.id)
    assert expected is not None, f"{chunk} was never stored"
    assert (chunk.text, chunk.metadata) == (expected.text, expected.metadata), f"{chunk} should be {expected}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main(*sys.argv[1:])
