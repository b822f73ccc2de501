"""What others chose is printed in one line, and is no command."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.printable import logger, one_line

STRANGE = "k\nWARNING forged: \x1b[31mb\u202ec\x07"


def test_a_line_stays_one() -> None:
    assert one_line(" a\tb\n c\x00\x1b[0m\u200f\ud800 ") == "a b c\ufffd\ufffd[0m\ufffd\ufffd"
    assert one_line("  a\nb", keep_spaces=True) == "  a\ufffdb"
    assert one_line("שלום, déjà 日本 👩‍💻") == "שלום, déjà 日本 👩‍💻"


def test_a_path_reaches_the_log_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a collection's path and its chunks' ids are, each record of the log is one line without commands."""
    caplog.set_level(logging.DEBUG, "reperio")
    root = tmp_path / STRANGE
    vectors = np.random.default_rng(1).standard_normal((8, 4))
    with reperio.open(root, dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk(f"{i}{STRANGE}", "wording", {}) for i in range(8)], vectors=vectors)
        kb.backup(tmp_path / f"{STRANGE}-backups", incremental=True)
        kb.optimize(index="SQ8")
        kb.compact()
    (database,) = root.glob("gen-*/chunks.db")
    content = bytearray(database.read_bytes())
    content[content.rindex(b"wording")] ^= 1
    database.write_bytes(content)
    lost = reperio.diagnose(root, mend=True).lost
    assert len(lost) == 1
    reperio.restore(tmp_path / f"{STRANGE}-backups", tmp_path / f"{STRANGE}-restored")
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("reperio")]
    assert any("forged" in message for message in messages)
    assert any("lost" in message for message in messages)
    for message in messages:
        assert one_line(message, keep_spaces=True) == message


def test_numbers_of_a_record_stay_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """A format for numbers still gets one."""
    logger("reperio.test").warning("%s has %d of %.1f %%", Path("a\nb"), 3, 0.25)
    assert caplog.messages == ["a\ufffdb has 3 of 0.2 %"]
