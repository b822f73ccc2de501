"""Build wheel and sdist of all packages, and check them: python .ci/packages.py FOLDER [--tag v0.1.0]."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEFT = re.compile(r"(^|/)(tests?|__pycache__|\.[^/]+)(/|$)|\.py[co]$")
"""Paths that no package has: tests, hidden files, compiled modules."""

OTHERS = ("build", "demo-kb", "demo-mixed", "dist", "docs", "eval", "examples", "integrations", "tests", "website")
"""Folders that no package is made of, some of them large."""


class Project(NamedTuple):
    """A package of this repository, as its pyproject.toml describes it."""

    folder: Path
    name: str
    version: str
    python: str
    modules: list[str]

    @property
    def stem(self) -> str:
        """Return the beginning of the names of its files."""
        return f"{re.sub(r'[-_.]+', '_', self.name)}-{self.version}"


def projects() -> list[Project]:
    """Return the packages: the core, then the adapters."""
    found = []
    for path in (ROOT / "pyproject.toml", *sorted(ROOT.glob("integrations/*/pyproject.toml"))):
        text = path.read_text(encoding="utf-8")
        name, version, python = (
            re.findall(rf'^{key} = "([^"]+)"', text, flags=re.M)[0] for key in ("name", "version", "requires-python")
        )
        modules = [
            each.parent.relative_to(path.parent / "src").as_posix() for each in path.parent.glob("src/**/py.typed")
        ]
        found.append(Project(path.parent, name, version, python, modules))
    return found


def disagreements(tag: str | None) -> Iterator[str]:
    """Yield what the versions say differently: of projects, modules, requirements, the tag, and the changelogs."""
    core, *adapters = projects()
    for project in (core, *adapters):
        if project.version != core.version:
            yield f"{project.name} has version {project.version}, {core.name} has {core.version}"
        if project.python != core.python:
            yield f"{project.name} is for Python {project.python}, {core.name} for {core.python}"
        said = {
            found[1]
            for path in project.folder.glob("src/**/__init__.py")
            for found in re.finditer(r'^__version__ = "([^"]+)"', path.read_text(encoding="utf-8"), flags=re.M)
        }
        if said - {project.version}:
            yield f"{project.name}: __version__ is {', '.join(sorted(said))}, pyproject.toml says {project.version}"
        if tag is not None:
            changes = (project.folder / "CHANGELOG.md").read_text(encoding="utf-8")
            if not re.search(rf"^## \[?{re.escape(project.version)}\b", changes, flags=re.M):
                yield f"{project.name}: its CHANGELOG.md has no section {project.version}"
    for project in adapters:
        text = (project.folder / "pyproject.toml").read_text(encoding="utf-8")
        if f'"{core.name}>={core.version}"' not in text:
            yield f"{project.name} does not ask for {core.name}>={core.version}"
    if tag is not None and tag != f"v{core.version}":
        yield f"the tag is {tag}, and the version is {core.version}"


def build(project: Project, folder: Path) -> tuple[Path, Path]:
    """Build a package from a copy, so that nothing is left in the repository. Return its wheel and its sdist."""
    with tempfile.TemporaryDirectory() as work:  # elsewhere: a .gitignore above it would go along
        copy = Path(work) / project.folder.name
        shutil.copytree(project.folder, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", *OTHERS))
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder.resolve()), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{project.name} cannot be built\n{done.stdout}{done.stderr}")
    return folder / f"{project.stem}-py3-none-any.whl", folder / f"{project.stem}.tar.gz"


def faults(project: Project, wheel: Path, sdist: Path) -> Iterator[str]:
    """Yield what a package has and should not have, or the other way round: by the files under src/."""
    source = {
        path.relative_to(project.folder / "src").as_posix()
        for path in (project.folder / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = f"{project.stem}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{about}/METADATA").decode())
    code = {name for name in names if not name.startswith(f"{about}/")}
    yield from (f"{wheel.name} lacks {name}" for name in sorted(source - code))
    yield from (f"{wheel.name} has {name}, which is not under src/" for name in sorted(code - source))
    yield from (f"{wheel.name} has {name}" for name in sorted(names) if LEFT.search(name))
    if f"{about}/licenses/LICENSE" not in names:
        yield f"{wheel.name} lacks its LICENSE"
    if not project.modules:
        yield f"{project.name} has no py.typed"
    for key, value in (("Name", project.name), ("Version", project.version), ("Requires-Python", project.python)):
        if metadata[key] != value:
            yield f"{wheel.name}: {key} is {metadata[key]}, pyproject.toml says {value}"
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames() if "/" in name}
    wanted = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", *(f"src/{name}" for name in source)}
    yield from (f"{sdist.name} lacks {name}" for name in sorted(wanted - inside))
    yield from (f"{sdist.name} has {name}" for name in sorted(inside) if LEFT.search(name))


def main() -> int:
    """Build all packages into an empty folder, and say what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where wheels and sdists go; what is there is removed")
    parser.add_argument("--tag", help="of a release: it must be the version, and the changelogs must have it")
    given = parser.parse_args()
    found = list(disagreements(given.tag))
    if not found:
        shutil.rmtree(given.folder, ignore_errors=True)
        given.folder.mkdir(parents=True)
        files: list[Path] = []
        for project in projects():
            files += (built := build(project, given.folder))
            found += faults(project, *built)
        checked = subprocess.run(
            [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if checked.returncode:
            found.append(checked.stdout + checked.stderr)
        for path in files:
            print(f"{path}: {path.stat().st_size // 1024} kB")
    for each in found:
        print(each, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
