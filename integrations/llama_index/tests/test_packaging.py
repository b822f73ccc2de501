"""The package as its users get it: built as sdist and wheel, installed beside the core's wheel, and used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.running import PACKAGE, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

INSIDE = "llama_index/vector_stores/reperio"

USED = """
import sys
from importlib.metadata import requires, version
import llama_index.core, llama_index.vector_stores.reperio as package, reperio
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
with package.ReperioVectorStore(sys.argv[1]) as store:
    store.add([TextNode(id_=n, text=n, embedding=e) for n, e in (("one", [1.0, 0.0]), ("two", [0.0, 1.0]))])
    assert store.query(VectorStoreQuery(query_embedding=[0.1, 1.0], similarity_top_k=1)).ids == ["two"]
name = "llama-index-vector-stores-reperio"
needed = sorted(line.replace(">", "<").split("<")[0] for line in requires(name) if "extra" not in line)
print(package.__file__, reperio.__file__, version(name), needed, sep="\\n")
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
    for name, source in (("core", ROOT), ("llama_index_package", PACKAGE)):
        copy = folder / name
        shutil.copytree(source, copy, ignore=ignored)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)], folder)
    return folder / "dist"


def test_sdist_and_wheel_hold_what_they_should(built: Path) -> None:
    """Types marker, licence, readme and changelog are inside; tests are not, nor an __init__.py of a namespace."""
    (wheel,) = built.glob("llama_index_vector_stores_reperio-*.whl")
    (sdist,) = built.glob("llama_index_vector_stores_reperio-*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    source = PACKAGE / "src"
    files = [path for path in (source / INSIDE).rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    modules = {path.relative_to(source).as_posix() for path in files}
    assert f"{INSIDE}/py.typed" in modules
    assert {name for name in names if name.startswith("llama_index/")} == modules
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", f"src/{INSIDE}/py.typed"} <= inside
    assert not any(name.startswith("tests") for name in inside)


def test_the_wheels_work_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """Installed without a network beside their dependencies, they import, store and search, and need nothing else."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True, system_site_packages=False)
    python = str(home / "bin" / "python")
    patterns = ("reperio-*.whl", "llama_index_vector_stores_reperio-*.whl")
    wheels = [str(next(built.glob(pattern))) for pattern in patterns]
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *wheels], tmp_path)
    inside = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    # After the environment's own packages, so that the wheels are found first; a .pth there is not followed further.
    (inside / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    lines = run([python, "-c", USED, str(tmp_path / "kb")], tmp_path).splitlines()
    assert Path(lines[0]).is_relative_to(home)
    assert Path(lines[1]).is_relative_to(home)
    assert lines[2:] == ["0.1.0", "['llama-index-core', 'reperio']"]


def test_the_llamahub_table_names_what_is_there() -> None:
    """import_path can be imported, and has the classes named."""
    from importlib import import_module

    hub = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["tool"]["llamahub"]
    module = import_module(hub["import_path"])
    assert hub["class_authors"]
    assert all(hasattr(module, name) for name in hub["class_authors"])


def test_only_public_names_of_the_core_are_imported() -> None:
    """From `reperio` and its rooms what is in their __all__; from a module without one, no private name."""
    import ast
    from importlib import import_module

    imported = 0
    for path in (PACKAGE / "src" / INSIDE).glob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = statement.module if isinstance(statement, ast.ImportFrom) else None
            if module is not None and module.split(".")[0] == "reperio":
                found = import_module(module)
                public = set(getattr(found, "__all__", [each for each in vars(found) if not each.startswith("_")]))
                names = {name.name for name in statement.names}  # type: ignore[union-attr]  # an import: it has a module
                assert names <= public, path.name
                imported += 1
    assert imported > 8
