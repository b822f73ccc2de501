"""Draw the picture of the architecture: python website/pictures.py writes docs/pictures/architecture.svg."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).parent.parent / "docs" / "pictures" / "architecture.svg"

WIDTH, ROW, LEFT = 900, 62, 20
INK, LINE, ABOVE, BELOW, FILES = "#1f2933", "#9aa5b1", "#e8eefc", "#eef6ee", "#fdf3e1"

ROWS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (ABOVE, (("cli", "commands"), ("mcp", "tools for agents"), ("your program", "import reperio"))),
    (ABOVE, (("evaluation", "the gate"), ("ingestion", "files to chunks"), ("exchange, importers, recovery", "data"))),
    (ABOVE, (("collection", "what a user holds: search, add, get, delete, optimize, backup, check"),)),
    (
        BELOW,
        (
            ("store", "SQLite: chunks, words"),
            ("index", "FAISS, exact scores"),
            ("embedding", "models"),
            ("ranking", "fusion, rerankers"),
            ("origins", "PostgreSQL, Redis"),
        ),
    ),
    (BELOW, (("filters", "metadata to rows"), ("layout", "the directory, its lock"), ("types, errors", "the ground"))),
    (FILES, (("chunks.db", "texts, metadata, words"), ("vectors.f32", "mapped"), ("index/", "derived"))),
)
"""From above: the colour of a row, and its boxes, each with a name and what it does."""


def box(x: float, y: float, width: float, colour: str, name: str, about: str) -> list[str]:
    """Return the lines of one box."""
    middle = x + width / 2
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="46" rx="6" fill="{colour}" stroke="{LINE}"/>',
        f'<text x="{middle:g}" y="{y + 20:g}" font-size="14" font-weight="600">{escape(name)}</text>',
        f'<text x="{middle:g}" y="{y + 37:g}" font-size="11.5">{escape(about)}</text>',
    ]


def drawn() -> str:
    """Return the picture."""
    height = ROW * len(ROWS) + 46
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" fill="{INK}" text-anchor="middle">',
        "<title>The rooms of Reperio: imports go downwards only</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (colour, boxes) in enumerate(ROWS):
        y = 16 + number * ROW + (14 if colour == FILES else 0)
        width = (WIDTH - 2 * LEFT - 12 * (len(boxes) - 1)) / len(boxes)
        for place, (name, about) in enumerate(boxes):
            lines += box(round(LEFT + place * (width + 12), 1), y, round(width, 1), colour, name, about)
    bottom = height - 14
    lines += [
        f'<text x="{WIDTH / 2:g}" y="{bottom}" font-size="12">'
        "imports go downwards only · blue: what you call · "
        "green: what it stands on · yellow: the directory on disk</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(drawn(), encoding="utf-8")
