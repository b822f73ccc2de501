"""What is read, by the suffix of a file's name."""

from __future__ import annotations

TEXTS = (".txt", ".text", ".log", ".rst")
MARKDOWN = (".md", ".markdown", ".mdx")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
DOCUMENTS = (
    *(".pdf", ".html", ".htm", ".xhtml", ".docx", ".pptx", ".xlsx", ".xls", ".ods", ".odt", ".epub", ".eml"),
    *(".ipynb", ".tex"),
)
CODE = (
    *(".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".java", ".kt", ".kts", ".scala", ".groovy", ".go"),
    *(".rs", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cs", ".swift", ".m", ".rb", ".php", ".pl", ".pm"),
    *(".lua", ".r", ".jl", ".sh", ".bash", ".zsh", ".ps1", ".sql", ".dart", ".ex", ".exs", ".hs", ".vue", ".svelte"),
)
PACKED = (".txt", ".log", ".csv", ".tsv", ".jsonl", ".ndjson", ".md")
"""The suffixes that ``.gz`` may stand behind."""

SUFFIXES = (*TEXTS, *MARKDOWN, *TABLES, *(f"{suffix}.gz" for suffix in PACKED), *DOCUMENTS, *CODE)


def suffix_of(name: str) -> str:
    """Return the suffix that decides how a file is read, in lower case: ``.csv.gz`` for ``Orders.CSV.gz``.

    A name without a dot, and one that only begins with one, has none: "".
    """
    stem, dot, last = name.lower().rpartition(".")
    if not dot or not stem:
        return ""
    if last == "gz":
        before = suffix_of(stem)
        return f"{before}.gz" if before else ".gz"
    return f".{last}"
