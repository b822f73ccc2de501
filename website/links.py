"""Check the built site: each link leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("audio", "src")}
"""Attributes by which a page loads something; of `link`, each `rel` besides those that only name an address."""

NAMING = {"canonical", "alternate", "next", "prev", "edit"}


class Page(HTMLParser):
    """The links of a page, the names in it to which links may lead, and paragraphs that should have been lists."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.raw: list[str] = []
        self._paragraph = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the names and links of an element."""
        given = {name: value or "" for name, value in attrs}
        self._paragraph = tag == "p" or (self._paragraph and tag in {"a", "em", "strong"})
        self.names |= {given[name] for name in ("id", "name") if name in given}
        for name in ("href", "src"):
            if name in given:
                self.links.append(given[name])
                if (tag, name) in LOADED or (tag == "link" and given.get("rel", "") not in NAMING):
                    self.loads.append(given[name])

    def handle_data(self, data: str) -> None:
        """Note the lines of a paragraph that begin as those of a list or table do."""
        if self._paragraph:
            self.raw += re.findall(r"(?:^|\n)(?:[-*] |\| ).{0,60}", data)

    def handle_endtag(self, tag: str) -> None:
        """Note where a paragraph ends."""
        self._paragraph = self._paragraph and tag != "p"


class Checked(NamedTuple):
    """What was found: faults in words, the addresses elsewhere, and how many links there are."""

    faults: list[str]
    elsewhere: list[str]
    links: int


def check(site: Path) -> Checked:
    """Follow each link of each page of a site."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    faults: list[str] = []
    elsewhere: set[str] = set()
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        faults += [f"{name}: {each!r} is loaded from elsewhere" for each in page.loads if is_elsewhere(each)]
        faults += [f"{name}: a list or table that is shown as text: {each.strip()!r}" for each in page.raw]
        for link in page.links:
            if is_elsewhere(link):
                elsewhere.add(link)
            elif fault := lost(link, path, site, pages):
                faults.append(f"{name}: {link}: {fault}")
    faults += [f"{each}: no address" for each in sorted(elsewhere) if not is_address(each)]
    for sheet in site.rglob("*.css"):
        for each in re.findall(
            r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text(encoding="utf-8")
        ):
            faults.append(f"{sheet.relative_to(site)}: {each!r} is loaded from elsewhere")
    return Checked(faults, sorted(elsewhere), sum(len(page.links) for page in pages.values()))


def lost(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    """Say why a link within the site leads nowhere; None where it leads somewhere."""
    parts = urlsplit(link)
    if parts.scheme == "data":
        return None
    if parts.path.startswith("/"):
        return None if path.name == "404.html" else "begins at the root, where the site need not be"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
    if not target.is_relative_to(site.resolve()):
        return "leads out of the site"
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "no such file"
    page = {each.resolve(): each for each in pages}.get(target) if parts.fragment else None
    if page is not None and unquote(parts.fragment) not in pages[page].names:
        return "no such heading"
    return None


def is_elsewhere(link: str) -> bool:
    """Whether a link leads out of the site."""
    return link.startswith("//") or urlsplit(link).scheme not in {"", "data"}


def is_address(link: str) -> bool:
    """Whether a link elsewhere could be one: its syntax alone, since there may be no network."""
    parts = urlsplit(link)
    if parts.scheme == "mailto":
        return "@" in parts.path
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and bool(re.fullmatch(r"[\w-]+(\.[\w-]+)+|localhost", host))


def scripts(site: Path) -> Iterator[Path]:
    """Yield the scripts of a site."""
    yield from sorted((site / "assets").rglob("*.js"))
