"""Generate the reference: what mkdocstrings makes of docstrings, and the commands as they describe themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "collection": (
        "Collection",
        "What `reperio.open` returns. Each method has a twin to be awaited: `asearch`, `aadd`, and so on.",
        ("reperio.Collection", "reperio.Records"),
    ),
    "package": (
        "Opening and making",
        "Functions of the package: they open, make, copy and examine collections.",
        (
            "reperio.open",
            "reperio.advise",
            "reperio.field",
            "reperio.Filter",
            "reperio.diagnose",
            "reperio.restore",
            "reperio.backups",
            "reperio.create_origin",
            "reperio.origin_status",
            "reperio.pull",
            "reperio.progress_bar",
        ),
    ),
    "types": (
        "Records and options",
        "What is passed in and comes back. All are plain data.",
        (
            "reperio.Chunk",
            "reperio.Hit",
            "reperio.AddResult",
            "reperio.Limits",
            "reperio.QueryLog",
            "reperio.CollectionInfo",
            "reperio.IndexInfo",
            "reperio.OperatingPoint",
            "reperio.OriginInfo",
            "reperio.CheckReport",
            "reperio.Problem",
            "reperio.Diagnosis",
            "reperio.Finding",
            "reperio.BackupInfo",
            "reperio.Duplicate",
            "reperio.DuplicateGroup",
            "reperio.DuplicatePair",
            "reperio.Record",
            "reperio.Progress",
            "reperio.Goal",
            "reperio.Recipe",
            "reperio.Metric",
            "reperio.Mode",
            "reperio.Fusion",
            "reperio.Lexical",
            "reperio.Dtype",
        ),
    ),
    "models": (
        "Models and rerankers",
        "What makes vectors of texts, and what orders hits again.",
        (
            "reperio.Embedder",
            "reperio.SentenceTransformerEmbedder",
            "reperio.OnnxEmbedder",
            "reperio.DEFAULT_EMBEDDER",
            "reperio.Reranker",
            "reperio.CrossEncoderReranker",
            "reperio.LateInteractionReranker",
            "reperio.CallableReranker",
        ),
    ),
    "ingestion": ("Ingestion", "Files to chunks: [Ingest](../ingest.md) explains it.", ("reperio.ingestion",)),
    "evaluation": ("Evaluation", "The [gate](../gate.md), from Python.", ("reperio.evaluation",)),
    "errors": (
        "Errors",
        "All derive from `ReperioError`. Each says what is wrong, where, and what cures it.",
        ("reperio.errors",),
    ),
}
"""By page: its title, its first sentence, and the names that it has. A module stands for all its public names."""


def write_reference(pages: Path) -> None:
    """Write the pages of the reference."""
    folder = pages / "reference"
    folder.mkdir(parents=True)
    for name, (title, about, shown) in PAGES.items():
        parts = [f"# {title}\n", f"{about}\n"]
        for each in shown:
            parts.append(f"::: {each}\n")
            if each.count(".") == 1 and each.islower() and each not in WITHOUT_MEMBERS:
                parts[-1] += "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
        (folder / f"{name}.md").write_text("\n".join(parts), encoding="utf-8")
    (folder / "command-line.md").write_text(command_line(), encoding="utf-8")


WITHOUT_MEMBERS = {f"reperio.{name}" for name in ("open", "advise", "field", "diagnose", "restore", "backups")} | {
    f"reperio.{name}" for name in ("create_origin", "origin_status", "pull", "progress_bar")
}
"""Functions, whose names look like those of modules."""


def command_line() -> str:
    """Return a page with each command, its arguments and its options."""
    from typer.main import get_command

    from reperio.cli.main import app

    lines = ["# Command line\n", "`reperio COMMAND --help` prints the same. `--json` is for scripts.\n"]
    for path, command in commands(get_command(app), "reperio"):
        lines += [f"## {path}\n", f"{(command.help or '').strip()}\n"]
        rows = [row for each in command.params if (row := described(each)) is not None]
        if rows:
            lines += ["| argument or option | means |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each command below one, with how it is called."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    for name, each in sorted((inner or {}).items()):
        yield from commands(each, f"{path} {name}")


def described(parameter: Any) -> str | None:
    """Return the row of an argument or option; None for one that is not shown."""
    text = getattr(parameter, "help", None) or ""
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return None
    if parameter.param_type_name == "argument":
        return f"| `{parameter.name.upper()}` | {cell(text)} |"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {cell(text)} |"


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
