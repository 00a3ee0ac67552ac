"""The wheel and the source distribution hold everything that an installation needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import vitlr

pytest.importorskip("setuptools", minversion="77")

CHECKOUT = Path(__file__).parent.parent
NEEDED = (
    "src",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "MANIFEST.in",
    "recipes",
    "constraints.txt",
    "Makefile",
)
NOT_PACKAGED = ("__pycache__", "*.pyc", "*.egg-info")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source distribution, built from a copy of the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in NEEDED:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns(*NOT_PACKAGED))
        else:
            shutil.copy(path, source / name)
    for target in ("build_sdist", "build_wheel"):
        code = f"from setuptools import build_meta; build_meta.{target}({str(out)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return out


def package_files() -> set[str]:
    """Every file of the package in the checkout, relative to ``src``."""
    source = CHECKOUT / "src"
    found = (
        path for path in (source / "vitlr").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(source).as_posix() for path in found}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == package_files()


def test_the_source_distribution_holds_the_package_and_the_recipes(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in package_files()} <= names
    assert {f"recipes/{path.name}" for path in (CHECKOUT / "recipes").iterdir()} <= names
    assert {"constraints.txt", "Makefile", "LICENSE", "README.md"} <= names


def test_the_metadata_has_the_version_that_the_package_reports(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"vitlr-{vitlr.__version__}-py3-none-any.whl"
