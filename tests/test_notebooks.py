"""The notebooks run from top to bottom on a run that was just made, and hold no logic of their own."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.runs.conftest import save_tiny_vit, save_tree
from vitlr.cli import main

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = ("confusion_matrix", "attention_rollout")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("notebooks")
    network, tree = save_tiny_vit(where / "vit"), save_tree(where / "core50")
    settings = [f"--data.root={tree}", f"--backbone.name={network}", "--memory.capacity=8"]
    settings += ["--learner.method=latent_replay"]  # whose runs leave a model, as those of the demo do
    flags = ["--data.dataset=core50", "--data.scenario=nicv2_391", "--learner.batch_size=8", *settings]
    assert main(["train", *flags, "--quiet", f"--out={where / 'run'}"]) == 0
    return where / "run"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_shows_pictures(name: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = run.parent / "core50" / "s3" / "o1"
    assert pictures.is_dir() and Image.open(next(iter(sorted(pictures.glob("*.png")))))
    monkeypatch.setenv("VITLR_RUN", str(run))
    monkeypatch.setenv("VITLR_MODEL", str(run))
    monkeypatch.setenv("VITLR_IMAGES", str(pictures))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(FOLDER.parent / "src"), os.environ.get("PYTHONPATH", "")])
    )
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures_shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures_shown) == (1 if name == "confusion_matrix" else 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_defines_nothing_and_is_stored_without_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code = ast.parse("\n".join(cell.source for cell in cells))
    assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) for node in ast.walk(code))
    assert not any(cell.outputs or cell.execution_count for cell in cells)
