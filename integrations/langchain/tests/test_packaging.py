"""The package as its users get it: built as sdist and wheel, installed beside the core's wheel, and used."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.running import PACKAGE, ROOT

USED = """
import sys
from importlib.metadata import requires, version
import langchain_reperio, reperio
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_reperio import ReperioVectorStore
with ReperioVectorStore(DeterministicFakeEmbedding(size=8), sys.argv[1]) as store:
    store.add_texts(["one", "two"], [{"n": 1}, {"n": 2}])
    assert store.similarity_search("two", k=1)[0].metadata == {"n": 2}
needed = sorted(line.split(">")[0] for line in requires("langchain-reperio") if "extra" not in line)
print(langchain_reperio.__file__, reperio.__file__, version("langchain-reperio"), needed, sep="\\n")
print([name for name in sys.modules if name.split(".")[0] in ("langchain_community", "langchain_classic", "langchain")])
"""


def run(arguments: list[str], folder: Path) -> str:
    """Run a command without this process's import path."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages as sdist and wheel, built from copies so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "eval", "integrations", "tests", "docs", "dist", "*.egg-info")
    for name, source in (("core", ROOT), ("langchain", PACKAGE)):
        copy = folder / name
        shutil.copytree(source, copy, ignore=ignored)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)], folder)
    return folder / "dist"


def test_sdist_and_wheel_hold_what_they_should(built: Path) -> None:
    """Types marker, licence, readme and changelog are inside; tests are not."""
    (wheel,) = built.glob("langchain_reperio-*.whl")
    (sdist,) = built.glob("langchain_reperio-*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"langchain_reperio/py.typed", "langchain_reperio/store.py"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert all(name.startswith("langchain_reperio") for name in names)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "src/langchain_reperio/py.typed"} <= inside
    assert not any(name.startswith("tests") for name in inside)


def test_the_wheels_work_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """Installed without a network beside their dependencies, they import, store and search, and need nothing else."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True, system_site_packages=False)
    python = str(home / "bin" / "python")
    wheels = [str(next(built.glob(pattern))) for pattern in ("reperio-*.whl", "langchain_reperio-*.whl")]
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *wheels], tmp_path)
    inside = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    # After the environment's own packages, so that the wheels are found first; a .pth there is not followed further.
    (inside / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    assert sysconfig.get_path("purelib") in site.getsitepackages()
    lines = run([python, "-c", USED, str(tmp_path / "kb")], tmp_path).splitlines()
    assert Path(lines[0]).is_relative_to(home)
    assert Path(lines[1]).is_relative_to(home)
    assert lines[2:] == ["0.1.0", "['langchain-core', 'reperio']", "[]"]
