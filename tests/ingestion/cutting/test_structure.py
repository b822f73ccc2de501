from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from reperio.ingestion.cutting.splitting import Piece, Splitter
from reperio.ingestion.cutting.structure import structure
from tests.conftest import TrigramEmbedder

pytest.importorskip("tokenizers", reason="it comes with sentence-transformers")
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

BODY = "One sentence of the body of this section. " * 8


def pieces(text: str, **options: Any) -> list[Piece]:
    most = options.pop("max_tokens", 200)
    overlap = options.pop("overlap", 0)
    return list(Splitter(TrigramEmbedder(), max_tokens=most, overlap=overlap).pieces(text, **options))


class CountingTokenizer:
    """A WordPiece tokenizer that counts the characters it is given."""

    def __init__(self) -> None:
        letters = [chr(code) for code in range(33, 127)]
        words = ["[UNK]", *letters, *(f"##{letter}" for letter in letters)]
        inner = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer()
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._inner = inner
        self.given = 0

    def encode(self, text: str, **options: Any) -> Any:
        self.given += len(text)
        return self._inner.encode(text, **options)

    def encode_batch(self, texts: Sequence[str], **options: Any) -> Any:
        self.given += sum(map(len, texts))
        return self._inner.encode_batch(texts, **options)


class CountingEmbedder(TrigramEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = CountingTokenizer()
        self.max_tokens = 256


def test_pieces_know_their_headings() -> None:
    """A piece has the headings above its beginning; its context leaves out those that it shows, and has the title."""
    text = f"# Manual\n\nIntro.\n\n## Opening\n\n{BODY}\n\n## Closing\n\n### Slowly\n\n{BODY}"
    found = pieces(text, kind="markdown", title="Slicer")
    assert found[0].text == "# Manual\n\nIntro."
    opening = [one for one in found if one.headings == ("Manual", "Opening")]
    assert [one.context for one in opening] == ["Slicer > Manual", "Slicer > Manual > Opening"] + [
        "Slicer > Manual > Opening"
    ] * (len(opening) - 2)
    closing = next(one for one in found if one.text.startswith("## Closing"))
    assert closing.text.startswith("## Closing\n\n### Slowly\n\nOne sentence")
    assert (closing.headings, closing.context) == (("Manual", "Closing", "Slowly"), "Slicer > Manual")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("room", [60, 120, 200, 400])
def test_no_piece_is_a_heading_alone(depth: int, room: int) -> None:
    """However the room falls, a heading stands with the beginning of what it is above."""
    text = "\n\n".join(f"{'#' * (1 + at % depth)} Heading {at}\n\n{BODY[: 30 + 41 * at % 300]}" for at in range(40))
    for one in pieces(text, kind="markdown", max_tokens=room):
        assert any(not line.startswith("#") for line in one.text.split("\n") if line), one.text
        assert len(one.text) + len(one.context) <= room


def test_the_header_of_a_table_goes_along() -> None:
    """A piece that begins within the rows of a table has its header as metadata and in its context."""
    rows = "\n".join(f"| A{at} | {at * at} |" for at in range(40))
    found = pieces(f"Berths:\n\n| Berth | Depth |\n|---|---|\n{rows}\n\nAfter.", kind="markdown")
    assert found[0].header == ""
    inner = [one for one in found[1:] if one.text.startswith("| A")]
    assert len(inner) > 2
    assert all(one.header == "| Berth | Depth |" and one.context.endswith("| Berth | Depth |") for one in inner)
    assert inner[0].metadata["table_header"] == "| Berth | Depth |"


def test_a_context_never_takes_more_than_a_quarter() -> None:
    """A long title and deep headings are shortened rather than leaving no room for text."""
    deep = "\n\n".join(f"{'#' * level} {'Very long heading ' * 4}{level}" for level in range(1, 7))
    for one in pieces(f"{deep}\n\n{BODY * 3}", kind="markdown", title="T" * 45):
        assert len(one.context) <= 50


def test_code_is_cut_at_its_definitions() -> None:
    """Functions and classes of several languages are kept whole where they fit, and known by their names."""
    python = "import os\n\n\n" + "\n\n".join(
        f"@decorated\ndef work_{at}(a, b):\n    # does it\n    return a * {at}\n" for at in range(8)
    )
    found = pieces(python, kind="code", max_tokens=150)
    assert all(one.text.startswith(("import", "@decorated")) for one in found)
    assert found[1].headings == (next(iter(found[1].headings)),)
    assert found[1].headings[0].startswith("def work_")
    method = "class Ship {\n  moor() {\n" + "    line();\n" * 40 + "  }\n}\n"
    assert pieces(method, kind="code")[1].headings == ("class Ship",)
    for line, name in [
        ("pub async fn moor(a: u8) -> u8 {", "pub async fn moor"),
        ("func (s *Ship) Moor() error {", "func"),
        ("export const moor = async (a) => {", "export const moor = async (a) =>"),
        ("int Ship::moor(int a)", "int Ship::moor(int a)"),
        ("CREATE TABLE ships (", "CREATE TABLE ships"),
    ]:
        (heading,) = structure(f"{line}\n  x\n", "code").headings
        assert heading.title.startswith(name)
    assert structure("if (a) {\n  b(c);\n}\nreturn f(x)\n", "code").headings == []


def test_underlined_headings_of_rst_are_found() -> None:
    """Depths are those of the order in which their lines appear, with a line above or not."""
    text = "=====\nTitle\n=====\n\nA\n===\n\nx\n\nB\n---\n\ny\n\nC\n===\n\n====  ====\na     b\n====  ====\n"
    assert [(one.title, one.depth) for one in structure(text, "rst").headings] == [
        ("Title", 1),
        ("A", 2),
        ("B", 3),
        ("C", 2),
    ]


@pytest.mark.parametrize(
    "text",
    [
        ",".join(map(str, range(20_000))),
        ", ".join(map(str, range(20_000))),
        "QUJD" * 30_000,
        "漢字你好世界" * 10_000,
        "漢字你好世界。" * 10_000,
        "ภาษาไทยเป็นภาษาที่สวยงาม" * 1_400,
        "." * 100_000,
        "x " * 50_000,
        "# a\n" * 5_000,
        ("(" * 500 + ")" * 500 + "\n") * 50,
        "|a|b|\n|-|-|\n" + "|1|2|\n" * 10_000,
    ],
    ids=["numbers", "spaced", "base64", "chinese", "sentences", "thai", "dots", "letters", "headings", "deep", "table"],
)
def test_splitting_is_linear_and_bounded(text: str) -> None:
    """Each word goes to the tokenizer once; no piece has too many tokens or characters, and nothing is lost."""
    embedder = CountingEmbedder()
    splitter = Splitter(embedder, overlap=0)
    before = embedder.tokenizer.given
    found = list(splitter.pieces(text, kind="markdown"))
    assert embedder.tokenizer.given - before <= 3 * len(text)
    assert max(len(embedder.tokenizer.encode(one.text).ids) for one in found) <= 256
    assert max(len(one.text) for one in found) <= 8 * 256
    assert all(text[one.start : one.start + len(one.text)] == one.text for one in found)
    assert "".join("".join(one.text.split()) for one in found) == "".join(text.split())


def test_marks_stay_with_their_letters() -> None:
    """Text without spaces is not cut between a letter and its accent."""
    text = "กำที่น้ำ" * 500 + "e\u0301" * 3000
    for one in Splitter(CountingEmbedder()).pieces(text):
        assert one.text[0] not in "\u0301\u0e34\u0e35\u0e36\u0e37\u0e48\u0e49"


def test_tokens_that_depend_on_spaces_are_counted_again() -> None:
    """A tokenizer of bytes, whose tokens include the space before a word, never gives a piece that is too long."""
    inner = Tokenizer(models.BPE({chr(code): code for code in range(0x180)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)

    class Embedder(TrigramEmbedder):
        tokenizer = inner
        max_tokens = 100

    splitter = Splitter(Embedder())
    found = list(splitter.pieces("Some words of prose, again and again. " * 200 + "漢字" * 500))
    assert max(len(inner.encode(one.text).ids) for one in found) <= 100
    assert len(found) > 50


def test_pieces_overlap_within_sections_only() -> None:
    """The end of a section is not repeated under the next heading."""
    text = "\n\n".join(f"# H{at}\n\n{BODY}" for at in range(5))
    found = pieces(text, kind="markdown", overlap=60)
    for one, other in itertools.pairwise(found):
        if other.text.startswith("#"):
            assert other.start >= one.start + len(one.text)
    assert any(other.start < one.start + len(one.text) for one, other in itertools.pairwise(found))


def test_splitting_can_be_interrupted() -> None:
    """Ctrl-C ends the splitting of a very long text."""
    program = (
        "import sys\nfrom reperio.ingestion.cutting.splitting import Splitter\n"
        "from tests.ingestion.cutting.test_structure import CountingEmbedder\n"
        "text = 'words and numbers 12345 ' * 5_000_000\n"
        "try:\n    print('ready', flush=True)\n    list(Splitter(CountingEmbedder()).pieces(text))\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
