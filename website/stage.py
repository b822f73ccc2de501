"""Prepare the pages of the site: those of docs/, what they lead to, and what is generated."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
OPTIONAL = ("studio.md",)
"""Pages that the navigation names and that need not be there."""

FENCED = re.compile(r"^(```.*?^```)$", flags=re.M | re.S)
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml"}


class Unlinked(Exception):
    """A page that leads nowhere, or that nothing leads to."""


def placed() -> dict[str, str]:
    """Return where each page and picture of the repository is on the site, by its path from the root."""
    places = {
        "README.md": "index.md",
        "CHANGELOG.md": "changes.md",
        "CONTRIBUTING.md": "contributing.md",
        "SECURITY.md": "reporting.md",
        "docs/decisions": "decisions/index.md",
        "eval/README.md": "measured/index.md",
    }
    for folder, below in (("docs", ""), ("eval/results", "measured/")):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".md", ".svg", ".png"}:
                places[path.relative_to(ROOT).as_posix()] = below + path.relative_to(ROOT / folder).as_posix()
    for readme in sorted(ROOT.glob("integrations/*/README.md")):
        folder = readme.parent
        places[readme.relative_to(ROOT).as_posix()] = f"adapters/{folder.name}.md"
        places[(folder / "CHANGELOG.md").relative_to(ROOT).as_posix()] = f"adapters/{folder.name}-changes.md"
        for name in ("CHANGELOG.md", "README.md"):
            assert (folder / name).exists(), folder
    return places


def stage(pages: Path) -> dict[str, str]:
    """Fill a folder with all that has a place, and with each file that a page leads to. Return the places.

    Raises:
        Unlinked: a link leads to nothing in the repository.
    """
    places = placed()
    waiting = [source for source in places if source not in {"README.md", "docs/decisions"}]
    (pages / "decisions").mkdir(parents=True)
    (pages / "decisions" / "index.md").write_text(list_of_decisions(), encoding="utf-8")
    while waiting:
        source = waiting.pop()
        path, target = ROOT / source, pages / places[source]
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".svg", ".png"}:
            shutil.copyfile(path, target)
        elif path.suffix == ".md":
            text, new = with_links(path.read_text(encoding="utf-8"), source, places)
            waiting += new
            target.write_text(text, encoding="utf-8")
        else:
            target.write_text(shown(path), encoding="utf-8")
    return places


def with_links(text: str, source: str, places: dict[str, str]) -> tuple[str, list[str]]:
    """Let each link of a page lead to where its file is on the site; give a place to files that have none."""
    new: list[str] = []

    def lead(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        if not link:
            return found[0]
        name = Path(os.path.normpath(ROOT / source / ".." / link)).relative_to(ROOT).as_posix()
        if not (ROOT / name).exists():
            raise Unlinked(f"{source}: {link} is no file")
        if name not in places:
            places[name] = f"files/{name}.md"
            new.append(name)
        return f"]({os.path.relpath(places[name], Path(places[source]).parent)}{anchor})"

    parts = FENCED.split(text)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    # What a reader types is shown as a shell's, and not as the output of one.
    parts[1::2] = [re.sub(r"^```console", "```bash", part) for part in parts[1::2]]
    return "".join(parts), new


def shown(path: Path) -> str:
    """Return a page that shows a file, or each file of a folder."""
    name = path.relative_to(ROOT).as_posix()
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
    parts = [f"# {name}\n"]
    for file in files:
        if file != path:
            parts.append(f"## {file.name}\n")
        parts.append(f"````{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text(encoding='utf-8').rstrip()}\n````\n")
    return "\n".join(parts)


def list_of_decisions() -> str:
    """Return a page with the title of each decision."""
    lines = ["# Decisions\n", "What was measured or weighed, and what was decided. One page each.\n"]
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def configured(pages: Path) -> str:
    """Return the configuration, without the optional pages that are not there.

    Raises:
        Unlinked: the navigation names a page that is not there, or leaves out one of docs/.
    """
    text = (ROOT / "website" / "zensical.toml").read_text(encoding="utf-8")
    for name in OPTIONAL:
        if not (pages / name).exists():
            text = re.sub(rf'^.*"{re.escape(name)}".*\n', "", text, flags=re.M)
    named = list(named_in(text))
    for name in named:
        if not (pages / name).exists():
            raise Unlinked(f"website/zensical.toml: nav names {name}, which is no page")
    for path in sorted((ROOT / "docs").glob("*.md")):
        if path.name not in named:
            raise Unlinked(f"website/zensical.toml: nav has no entry for docs/{path.name}")
    if len(set(named)) < len(named):
        raise Unlinked("website/zensical.toml: nav names a page twice")
    return text


def named_in(configuration: str) -> Iterator[str]:
    """Yield the pages of the navigation, in its order."""
    yield from re.findall(r'^ *\{ "[^"]+" = "([^"]+\.md)" \}', configuration, flags=re.M)
