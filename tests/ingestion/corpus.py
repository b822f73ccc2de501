"""A folder of small files: every format that is read, and every trap that was met, each with what must come of it.

python -m tests.ingestion.corpus FOLDER   # writes the files, to look at them or to ingest them by hand
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ingestion import made

WORDS = "Ships are moored at the quay with four lines, für Größe."
STORM = "In a storm two more lines are taken."
FEES = "Fees are due on Monday."
BLOCKS: list[made.Block] = [
    ("title", "Harbour handbook"),
    ("h1", "Mooring"),
    ("p", WORDS),
    ("h2", "Storm lines"),
    ("p", STORM),
    ("table", [["Berth", "Depth"], ["A1", "4.5"], ["B2", "7.25"]]),
    ("h1", "Fees"),
    ("p", FEES),
]
TABLE = "| Berth | Depth |\n| --- | --- |\n| A1 | 4.5 |\n| B2 | 7.25 |"
HTML = (
    f"<h1>Mooring</h1><p>{WORDS}</p><h2>Storm lines</h2><p>In a storm two more lines are <b>taken</b>.</p>"
    "<table><tr><th>Berth</th><th>Depth</th></tr><tr><td>A1</td><td>4.5</td></tr><tr><td>B2</td><td>7.25</td></tr></table>"
)
MARKDOWN = f"# Mooring\n\n{WORDS}\n\n## Storm lines\n\n{STORM}\n\n{TABLE}"
PICTURE = "data:image/png;base64," + "QUJD" * 30_000
LIBRARIES = ("pypdfium2", "selectolax", "python_calamine")


@dataclass(frozen=True)
class Made:
    """A file and what must come of it.

    Attributes:
        name: of the file, with folders.
        content: its bytes.
        chunks: the text and metadata of each chunk of a splitter with room for 1,000 characters, in their order.
            `source` and `start` are left out of the metadata.
        error: part of the message where the file is refused.
        notes: part of what is said about it.
        needs: the module that reads it.
        options: of reading.
    """

    name: str
    content: bytes
    chunks: Sequence[tuple[str, dict[str, Any]]] = ()
    error: str = ""
    notes: str = ""
    needs: str = ""
    options: dict[str, Any] | None = None


def _text(name: str, content: str | bytes, *chunks: str, **more: Any) -> Made:
    raw = content if isinstance(content, bytes) else content.encode()
    return Made(name, raw, [(chunk, {}) for chunk in chunks], **more)


def corpus() -> list[Made]:
    """Make the files."""
    return [*_texts(), *_marked(), *_tables(), *_json(), *_code(), *_documents(), *_hostile()]


def _texts() -> list[Made]:
    crlf = "First line.\r\n\r\nSecond line.\r\n"
    return [
        _text("plain.txt", f"{WORDS}\n", WORDS),
        _text("empty.txt", ""),
        _text("blank.txt", " \n\t\n "),
        _text("mark.txt", b"\xef\xbb\xbf" + WORDS.encode(), WORDS),
        _text("utf16le.txt", WORDS.encode("utf-16"), WORDS),
        _text("utf16be.txt", b"\xfe\xff" + WORDS.encode("utf-16-be"), WORDS),
        _text("utf32.txt", WORDS.encode("utf-32"), WORDS),
        _text("utf16-bare.txt", WORDS.encode("utf-16-le"), error="encoding='utf-16-le'"),
        _text("utf16-ascii.txt", "plain letters".encode("utf-16-le"), error="encoding='utf-16-le'"),
        _text("utf16-big.txt", "plain letters".encode("utf-16-be"), error="encoding='utf-16-be'"),
        _text("zeros.txt", b"words" + bytes(2) + b"and more words", error="looks like no text at all"),
        _text("utf16-told.txt", WORDS.encode("utf-16-le"), WORDS, options={"encoding": "utf-16-le"}),
        _text("latin.txt", WORDS.encode("cp1252"), error="--encoding windows-1252"),
        _text("latin-told.txt", WORDS.encode("cp1252"), WORDS, options={"encoding": "windows-1252"}),
        _text("sjis.txt", "漢字です。".encode("shift_jis"), "漢字です。", options={"encoding": "shift_jis"}),
        _text("picture.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40), error="looks like no text at all"),
        _text("crlf.txt", crlf, "First line.\r\n\r\nSecond line."),
        _text("packed.txt.gz", gzip.compress(WORDS.encode(), mtime=0), WORDS),
        _text("damaged.txt.gz", b"\x1f\x8b\x08\0damaged", error="cannot be unpacked"),
        _text("notgz.csv.gz", b"text\nwords\n", error="cannot be unpacked"),
        _text("app.log", "10:00 begun\n10:01 failed\n  at line 5\n", "10:00 begun\n10:01 failed\n  at line 5"),
        _text("thai.txt", "ภาษาไทย" * 10, "ภาษาไทย" * 10),
    ]


def _marked() -> list[Made]:
    front = "---\ntitle: Harbour handbook\ntags: [ships, 'deep, water']\nyear: 2026\ndraft: false\n# no field\n"
    fields = {"title": "Harbour handbook", "tags": ["ships", "deep, water"], "year": 2026, "draft": False}
    context = {"headings": ["Mooring"], "embedding_context": "Harbour handbook"}
    fenced = "# Real\n\n```sh\n# no heading\nls\n```"
    return [
        Made("page.md", f"{front}---\n# Mooring\n\n{WORDS}\n".encode(), [(f"# Mooring\n\n{WORDS}", fields | context)]),
        Made("page.markdown", b"Title\n=====\n\nBody.", [("Title\n=====\n\nBody.", {"headings": ["Title"]})]),
        Made("page.mdx", b"# A\n\n<Tag/> text", [("# A\n\n<Tag/> text", {"headings": ["A"]})]),
        Made("rule.md", b"---\n\nNo front matter, a rule.", [("---\n\nNo front matter, a rule.", {})]),
        Made(
            "lists.md",
            b"---\na:\n  - x\n  - 5\nb: |\n  two\n  lines\n---\nBody.",
            [("Body.", {"a": ["x", 5], "b": "two\nlines"})],
        ),
        Made("taken.md", b"---\nsource: wiki\n---\nBody.", [("Body.", {"record_source": "wiki"})]),
        Made("image.md", f"Look: ![a ship]({PICTURE}) there.".encode(), [("Look: a ship there.", {})]),
        Made("tag.md", f'<img src="{PICTURE}"/> text'.encode(), [('<img src=""/> text', {})]),
        Made("fence.md", fenced.encode(), [(fenced, {"headings": ["Real"]})]),
        Made("alone.md", b"# Only a heading", [("# Only a heading", {"headings": ["Only a heading"]})]),
        Made(
            "book.rst",
            b"======\nManual\n======\n\nMooring\n-------\n\nShips.\n",
            [("======\nManual\n======\n\nMooring\n-------\n\nShips.", {"headings": ["Manual", "Mooring"]})],
        ),
    ]


def _tables() -> list[Made]:
    rows = [("One, two.", {"n": 1, "price": 1.5, "ok": True}), ("Three.", {"n": 22, "price": 2.25, "ok": False})]
    head = "id,text,n,price,ok\n"
    comma = f'{head}a,"One, two.",1,1.5,true\nb,Three.,22,2.25,false\n'
    semicolon = "id;text;n;price;ok\na;One, two.;1;1.5;true\nb;Three.;22;2.25;false\n"
    zeros = "text,zip,version,mixed,empty,big\na,01234,1.9,5,,123456789012345678901\nb,99999,1.10,x,,1\n"
    return [
        Made("comma.csv", comma.encode(), rows),
        Made("semicolon.csv", semicolon.encode(), rows, notes="separated by semicolons"),
        Made("bar.csv", semicolon.replace(";", "|").encode(), rows, notes="separated by vertical bars"),
        Made("tabs.csv", semicolon.replace(";", "\t").encode(), rows, notes="separated by tabs"),
        Made("tabs.tsv", semicolon.replace(";", "\t").encode(), rows),
        Made("packed.csv.gz", gzip.compress(comma.encode(), mtime=0), rows),
        Made(
            "excel.csv",
            semicolon.encode("utf-16"),
            rows,
            notes="UTF-16, by its byte order mark its fields are separated",
        ),
        Made("latin.csv", "text;a\ncafé;1\n".encode("cp1252"), error="windows-1252"),
        Made(
            "latin-told.csv",
            "text;a\ncafé;1\n".encode("cp1252"),
            [("café", {"a": 1})],
            options={"encoding": "cp1252"},
            notes="semicolons",
        ),
        Made("utf16-bare.csv", semicolon.encode("utf-16-le"), error="encoding='utf-16-le'"),
        Made("told.csv", b"text^a\nx,y;z^1\n", [("x,y;z", {"a": 1})], options={"delimiter": "^"}),
        Made(
            "kinds.csv",
            zeros.encode(),
            [
                ("a", {"zip": "01234", "version": "1.9", "mixed": "5", "empty": "", "big": "123456789012345678901"}),
                ("b", {"zip": "99999", "version": "1.10", "mixed": "x", "empty": "", "big": "1"}),
            ],
        ),
        Made("nulls.csv", b"text,n\na,1\nb,\n", [("a", {"n": 1}), ("b", {"n": None})]),
        Made("prices.csv", b"text,p\na,1.5\nb,-0.25\n", [("a", {"p": 1.5}), ("b", {"p": -0.25})]),
        Made("versions.csv", b"text,v\na,3.10\nb,3.11\n", [("a", {"v": "3.10"}), ("b", {"v": "3.11"})]),
        Made("some.csv", comma.encode(), [(text, {"n": row["n"]}) for text, row in rows], options={"columns": ("n",)}),
        Made(
            "less.csv",
            comma.encode(),
            [(text, {"n": row["n"]}) for text, row in rows],
            options={"drop": ("price", "ok")},
        ),
        Made(
            "noid.csv",
            b"id,text\n1,a\n2,b\n",
            [("a", {"id": 1}), ("b", {"id": 2})],
            options={"id": None},
        ),
        Made("unknown.csv", comma.encode(), error="no field 'x', which drop", options={"drop": ("x",)}),
        Made(
            "titled.csv",
            b"text,title\nbody,Head\n",
            [("body", {"title": "Head", "embedding_context": "Head"})],
            options={"title": "title"},
        ),
        Made("short.csv", b"text,a\nx\n", error="1 fields, the header has 2"),
        Made("other.csv", b"body,a\nx,1\n", error="no field 'text'"),
        Made("quotes.csv", b'text,a\n"never closed,1\n', error="no valid CSV"),
    ]


def _json() -> list[Made]:
    objects = [{"text": "One.", "n": 1}, {"text": "Two.", "n": 2}]
    found = [("One.", {"n": 1}), ("Two.", {"n": 2})]
    lines = "".join(json.dumps(one) + "\n" for one in objects)
    return [
        Made("list.json", json.dumps(objects).encode(), found),
        Made("lines.jsonl", lines.encode(), found),
        Made("lines.ndjson", lines.encode("utf-16"), found),
        Made("lines.jsonl.gz", gzip.compress(lines.encode(), mtime=0), found),
        Made("object.json", b'{\n  "name": "x"\n}', [('{\n  "name": "x"\n}', {})]),
        Made("bad.json", b'{"name": ', error="no valid JSON"),
        Made("deep.json", b"[" * 200_000, error="no valid JSON"),
        Made("untexted.json", b'[{"a": 1}]', error="no field 'text'"),
    ]


def _code() -> list[Made]:
    python = "# About ships.\nimport os\n\n\nclass Ship:\n    def moor(self):\n        return 1\n"
    return [
        Made("ship.py", python.encode(), [(python.strip(), {})]),
        Made(
            "ship.js",
            b"export function moor() {\n  return 1;\n}\n",
            [("export function moor() {\n  return 1;\n}", {"headings": ["export function moor"]})],
        ),
        Made(
            "ship.c",
            b"#include <x.h>\n\nint moor(int a)\n{\n  return a;\n}\n",
            [("#include <x.h>\n\nint moor(int a)\n{\n  return a;\n}", {})],
        ),
    ]


def _documents() -> list[Made]:
    title = {"embedding_context": "Harbour handbook"}
    whole = f"# Harbour handbook\n\n# Mooring\n\n{WORDS}\n\n## Storm lines\n\n{STORM}\n\n{TABLE}\n\n# Fees\n\n{FEES}"
    office = [(whole, {"headings": ["Mooring"], **title})]
    page = (
        f"<!doctype html><html><head><title>Harbour handbook</title><style>p {{}}</style></head><body><nav>Home</nav>"
        f"{HTML}<script>evil()</script><p><img src='{PICTURE}' alt='a ship'></p><pre>a\n  b</pre></body></html>"
    )
    tex = (
        "\\documentclass{article}\\title{Harbour handbook}\\begin{document}\\maketitle\n\\section{Mooring}\n"
        'Ships are \\emph{moored}, f\\"ur Gr\\"o\\ss e. % not said\n\n\\begin{itemize}\n\\item bow line\n'
        "\\end{itemize}\\end{document}"
    )
    cells = [("markdown", f"# Mooring\n\n{WORDS}"), ("code", "print(1)")]
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["1\n"]},
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": "QUJD" * 10_000}},
    ]
    return [
        Made("a.docx", made.docx(BLOCKS, title="Harbour handbook"), office),
        Made("a.odt", made.odt(BLOCKS, title="Harbour handbook"), office),
        Made(
            "a.pptx",
            made.pptx([("Mooring", [WORDS, STORM]), ("Fees", [FEES])]),
            [
                (f"# Mooring\n\n{WORDS}\n\n{STORM}", {"page": 1, "headings": ["Mooring"]}),
                (f"# Fees\n\n{FEES}", {"page": 2, "headings": ["Fees"]}),
            ],
        ),
        Made(
            "a.xlsx",
            made.xlsx(
                {"Berths": [["Berth", "Depth", "Free"], ["A1", 4, True]], "Blank": [], "Fees": [["Day"], ["Monday"]]}
            ),
            [
                (
                    "| Berth | Depth | Free |\n| --- | --- | --- |\n| A1 | 4 | true |",
                    {"sheet": "Berths", "headings": ["Berths"], "embedding_context": "Berths"},
                ),
                ("| Day |\n| --- |\n| Monday |", {"sheet": "Fees", "headings": ["Fees"], "embedding_context": "Fees"}),
            ],
            needs="python_calamine",
        ),
        Made(
            "a.epub",
            made.epub([("One", HTML), ("Two", f"<h1>Fees</h1><p>{FEES}</p>")], title="Harbour handbook"),
            [
                (MARKDOWN, {"chapter": 1, "headings": ["Mooring"], **title}),
                (f"# Fees\n\n{FEES}", {"chapter": 2, "headings": ["Fees"], **title}),
            ],
            needs="selectolax",
        ),
        Made(
            "a.html",
            page.encode(),
            [(f"{MARKDOWN}\n\na ship\n\n```\na\n  b\n```", {"headings": ["Mooring"], **title})],
            needs="selectolax",
        ),
        Made("latin.html", "<meta charset='windows-1252'><p>café".encode("cp1252"), [("café", {})], needs="selectolax"),
        Made(
            "a.pdf",
            made.pdf(
                [["Mooring", WORDS], ["Fees", FEES], ["no heading"]],
                title="Harbour handbook",
                outline=[("Mooring", 0), ("Fees", 1)],
            ),
            [
                (
                    f"Mooring\n{WORDS}",
                    {"page": 1, "headings": ["Mooring"], "embedding_context": "Harbour handbook > Mooring"},
                ),
                (f"Fees\n{FEES}", {"page": 2, "headings": ["Fees"], "embedding_context": "Harbour handbook > Fees"}),
                ("no heading", {"page": 3, "headings": ["Fees"], "embedding_context": "Harbour handbook > Fees"}),
            ],
            needs="pypdfium2",
        ),
        Made("scan.pdf", made.pdf([[], []]), notes="has no text on 2 of its 2 pages", needs="pypdfium2"),
        Made(
            "a.eml",
            made.eml("Fees für alle", f"{FEES}\n\nAda\n", html=f"<p>{FEES}</p>", attached={"x.bin": b"abc"}),
            [
                (
                    f"# Fees für alle\n\n{FEES}\n\nAda",
                    {
                        "headings": ["Fees für alle"],
                        "subject": "Fees für alle",
                        "from": "Ada <ada@example.org>",
                        "to": "Bo <bo@example.org>",
                        "date": "Mon, 04 May 2026 03:02:01 +0200",
                        "attachments": ["x.bin"],
                    },
                )
            ],
            notes="1 attached file",
        ),
        Made(
            "a.ipynb",
            made.ipynb(cells, outputs=outputs),
            [(f"# Mooring\n\n{WORDS}\n\n```python\nprint(1)\n```\n\n```\n1\n```", {"headings": ["Mooring"]})],
        ),
        Made(
            "a.tex",
            tex.encode(),
            [("## Mooring\n\nShips are moored, für Größe. \n\n- bow line", {"headings": ["Mooring"], **title})],
        ),
    ]


def _hostile() -> list[Made]:
    entities = "".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(9))
    bomb = f"<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>{entities}]><w:document xmlns:w='w'>&j;</w:document>"
    endless = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 100000000 >>"]
    far = made.xlsx({"a": [["x"]]}, cells="<row r='1048576'><c r='XFD1048576'><v>1</v></c></row>")
    return [
        Made("bomb.docx", made.bomb("word/document.xml"), error="unpacks to more than 268,435,456 bytes"),
        Made(
            "bomb.epub",
            made.bomb("META-INF/container.xml"),
            error="unpacks to",
            needs="selectolax",
        ),
        Made(
            "bomb.xlsx",
            made.bomb("xl/workbook.xml"),
            error="unpacks to",
            needs="python_calamine",
        ),
        Made("bomb.txt.gz", made.packed_spaces(300), error="unpacks to more than"),
        Made("far.xlsx", far, error="far.xlsx", needs="python_calamine"),
        Made("entities.docx", made.packed({"word/document.xml": bomb}), error="declares entities"),
        Made("deep.docx", made.docx([], body="<w:p>" * 100_000 + "</w:p>" * 100_000), error="nested deeper than 1000"),
        Made(
            "deep.html",
            b"<div>" * 200_000 + b"x",
            error="nested deeper than 5,000",
            needs="selectolax",
        ),
        Made("endless.pdf", made.pdf_of(endless, b"/Root 1 0 R"), error="endless.pdf", needs="pypdfium2"),
        Made("no.pdf", b"%PDF-1.4 and no more", error="no PDF that can be read", needs="pypdfium2"),
        Made("no.docx", b"no archive", error="is damaged, or not of the kind"),
        Made("other.docx", made.packed({"a": b"b"}), error="holds no Word document"),
        Made("torn.odt", made.packed({"content.xml": "<a><b>"}), error="is damaged (content.xml"),
        Made("no.ipynb", b"{}", error="is no notebook"),
        Made("no.xlsx", b"words", error="is damaged, or not of the kind", needs="python_calamine"),
    ]


def write(folder: Path) -> list[Made]:
    """Write the files into a folder."""
    files = corpus()
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    return files


if __name__ == "__main__":
    write(Path(sys.argv[1]))
