"""What the pages say of the repository is true of it: paths, links, figures, dependencies, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "eval/README.md")),
    *DOCS,
    *sorted(ROOT.glob(".github/**/*.md")),
]
FROM = (ROOT, *(ROOT / folder for folder in ("src/reperio", "eval/bench", "eval/reranking")))
"""Where a path may begin, apart from the folder of its page."""

USERS = {
    "golden.yaml",
    "golden.baseline.json",
    "index.pkl",
    "collection.json",
    "notes/architecture.md",
    "../shared/data/realq",
}
"""Names of files that users have, or that lie next to a checkout, and this repository has not."""

PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml|txt|ya?ml|json|svg|pkl))`")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_in_backticks_exist(page: Path) -> None:
    """Each file or folder that a page names is in the repository: from its root, from src/reperio, or from the page."""
    for path in PATH.findall(prose(page)):
        if path in USERS or path.startswith(("sentence-transformers/", "intfloat/")):  # a model on a hub is no path
            continue
        places = [start / path for start in (*FROM, page.parent)]
        assert any(place.exists() or place.with_suffix(".py").exists() for place in places), f"{named(page)}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is a file, and what follows a # is a heading in it."""
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", prose(page)):
        target = page.parent / link if link else page
        assert target.exists(), f"{named(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)}: {link}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Name headings as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_targets_of_make_exist() -> None:
    """Each `make …` that a page names is in the Makefile, and each test that CONTRIBUTING.md runs is a file."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^)make (?:[A-Z]\S+ )?([a-z][a-z-]*)", text, flags=re.M):
            assert re.search(rf"^{target}:", makefile, flags=re.M), f"{named(page)}: make {target}"
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder, path in re.findall(r"^(?:cd (\S+) && \S+|\.venv/bin/)pytest (tests/\S+)", contributing, flags=re.M):
        assert (ROOT / folder / path).exists(), path


def test_every_figure_of_the_readme_stands_on_the_page_it_names() -> None:
    """A figure that was measured again is changed in both places."""
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "(eval/results/" in line]
    assert len(rows) >= 6
    for row in rows:
        what, ours, others, link = (cell.strip() for cell in row.strip("|").split("|"))
        page = (ROOT / re.findall(r"\((\S+)\)", link)[0]).read_text(encoding="utf-8")
        for figure in re.findall(r"\d[\d,.]*\d|\d+", f"{ours}, {others.replace('(', ' ').replace(')', ' ')}"):
            assert re.search(rf"(?<![\d,.]){re.escape(figure)}(?![\d]|[,.]\d)", page), f"{what}: {figure}"


def test_every_figure_of_the_comparison_is_that_of_its_source() -> None:
    """In the section named before a table, one line has a row's name and all its figures, each as a cell begins."""
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    found = re.findall(r"Source:\s+\[[^]]+\]\(\.\./([^)]+)\)((?: → [^\n]+)?)\n\n((?:\|.*\n)+)", page)
    figures = 0
    assert len(found) == page.count("Source:") >= 8
    for source, headings, table in found:
        lines = section((ROOT / source).read_text(encoding="utf-8"), headings.split(" → ")[1:])
        for row in table.splitlines()[2:]:
            name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            for line in (line for line in lines if all(part in line for part in name.split(", "))):
                there = {re.sub(r"[*\s].*|,$", "", cell.strip()) for cell in re.split(r"\||;| / ", line)}
                wanted = [cell for cell in cells if re.fullmatch(r"[\d,.]+", cell)]
                if wanted and set(wanted) <= there:
                    figures += len(wanted)
                    break
            else:
                raise AssertionError(f"docs/comparison.md: {row} is not in {source}{headings}")
    assert figures > 80


def section(text: str, headings: list[str]) -> list[str]:
    """Return the lines of a page below headings, the outer one first."""
    for heading in headings:
        found = re.search(rf"^(#+) (?:\(\w\) )?{re.escape(heading)}$", text, flags=re.M)
        assert found, heading
        text = re.split(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], maxsplit=1, flags=re.M)[0]
    return text.splitlines()


def test_the_readme_is_short() -> None:
    """At most 120 lines: the rest has a page of its own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_page_is_reached_from_the_readme() -> None:
    """The table of links names each page of docs/, and the folder of decisions."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in DOCS:
        if page.parent.name != "decisions":
            assert f"({named(page)})" in readme, named(page)


def test_every_dependency_has_its_reason() -> None:
    """The table in docs/architecture.md names each package that pyproject.toml asks for at run time."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    optional = project.partition("[project.optional-dependencies]")[2].partition("\n# What the tests need")[0]
    names = set(re.findall(r'"([\w-]+)\s*[>=~!<\[;]', required + optional)) - {"reperio"}
    assert {"numpy", "faiss-cpu", "pyyaml"} <= names
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Dependencies")[2]
    for name in names:
        assert name in table, name


def test_every_package_is_in_the_table_of_rooms() -> None:
    """docs/architecture.md names each folder of src/reperio."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "reperio"
    for package in source.rglob("__init__.py"):
        room = package.parent.relative_to(source).as_posix()
        assert room == "." or f"`{room}/" in page, room


def test_commands_of_the_benchmarks_exist() -> None:
    """Scripts that eval/README.md and docs/torture.md run are there, with the options they are given."""
    found = 0
    for page in (ROOT / "eval" / "README.md", ROOT / "docs" / "torture.md"):
        for script, rest in re.findall(r"python (eval/\S+\.py)(.*)", page.read_text(encoding="utf-8")):
            text = (ROOT / script).read_text(encoding="utf-8")
            for option in re.findall(r" (--[\w-]+)", rest.partition("  ")[0]):
                assert f'"{option}"' in text, f"{named(page)}: {script} {option}"
                found += 1
    assert found >= 8


def test_the_changelog_has_the_usual_form() -> None:
    """Unreleased first, known headings, one line per change of at most 120 characters."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    assert versions[0] == "## [Unreleased]"
    headings = {line for line in lines if line.startswith("### ")}
    assert headings <= {f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}
    body = lines[lines.index(versions[0]) + 1 :]
    for line in body:
        assert len(line) <= 120, line
        assert not line or line.startswith(("- ", "#", "[")), line
