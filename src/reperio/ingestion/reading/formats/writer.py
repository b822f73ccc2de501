"""Blocks of a document → Markdown: what the readers of office formats have in common."""

from __future__ import annotations

from reperio.ingestion.reading.formats.parts import MOST_CELLS, Unreadable, heading, plain, table

_MOST_REPEATED = 64  # cells that stand for one another, and are not empty


class Writer:
    """Collects headings, paragraphs and tables in their order."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._tables: list[list[list[str]]] = []  # those that are open, outermost first
        self._cells = 0

    def add(self, text: str, *, depth: int = 0, item: bool = False) -> None:
        """Add a paragraph, a heading of a depth from 1, or an item of a list; in a table, to its cell."""
        text = text.strip()
        if not text:
            return
        if self._tables and self._tables[-1] and self._tables[-1][-1]:
            row = self._tables[-1][-1]
            row[-1] = f"{row[-1]} {text}" if row[-1] else text
            return
        if depth:
            self.blocks.append(heading(depth, text))
        elif item:
            self.blocks.append(f"- {text}")
        else:
            self.blocks.append(plain(text))

    def begin(self, name: str) -> None:
        """Begin a table, a row or a cell, by the name that Word and PowerPoint have for it; others are none."""
        if name == "tbl":
            self.open_table()
        elif name == "tr":
            self.row()
        elif name == "tc":
            self.cell()

    def open_table(self) -> None:
        """Begin a table, or one within a cell."""
        self._tables.append([])

    def row(self) -> None:
        """Begin a row."""
        if self._tables:
            self._tables[-1].append([])

    def cell(self) -> None:
        """Begin a cell."""
        self._cells += 1
        if self._cells > MOST_CELLS:
            raise Unreadable(f"has tables of more than {MOST_CELLS:,} cells; cut it into smaller files")
        if self._tables and self._tables[-1]:
            self._tables[-1][-1].append("")

    def repeat(self, times: int) -> None:
        """Write the cell that has ended again; empty ones at the end of a row say nothing."""
        if self._tables and self._tables[-1] and self._tables[-1][-1] and self._tables[-1][-1][-1]:
            self._tables[-1][-1] += [self._tables[-1][-1][-1]] * min(times - 1, _MOST_REPEATED)

    def close_table(self) -> None:
        """End a table; one within a cell becomes a part of its text."""
        if not self._tables:
            return
        rows = [row for row in self._tables.pop() if any(row)]
        if not rows:
            return
        if self._tables:
            self.add("; ".join(", ".join(cell for cell in row if cell) for row in rows))
        else:
            self.blocks.append(table(rows))

    def text(self) -> str:
        """Return the Markdown; the items of a list stand directly below one another."""
        out: list[str] = []
        for block in self.blocks:
            if out:
                out.append("\n" if block.startswith("- ") and out[-1].startswith("- ") else "\n\n")
            out.append(block)
        return "".join(out)
