"""The structure of the package, kept true: imports go one way, nothing unsafe is ever loaded."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

import vitlr

SOURCE = Path(vitlr.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))

# Room -> rooms it may import from. What is not named here may import everything.
ALLOWED = {
    "errors": set(),
    "configuration": {"errors"},
    "device": {"errors"},
    "storage": {"errors"},
    "data": {"errors", "configuration", "storage", "rendered"},
    "rendered": {"errors", "storage", "data"},
    "vit": {"errors", "device", "storage", "latents"},
    "latents": {"errors", "configuration", "device", "storage", "vit"},
    "replay": {"errors", "configuration", "device", "storage"},
    "learning": {"errors", "configuration", "device", "storage", "replay"},
    "evaluation": {"errors", "configuration", "device", "storage", "data", "vit", "replay", "learning"},
    "report": {"errors", "configuration", "storage", "evaluation"},
    "runs": {
        "errors",
        "configuration",
        "device",
        "storage",
        "data",
        "rendered",
        "vit",
        "latents",
        "replay",
        "learning",
        "evaluation",
        "report",
    },
    "classifier": {"errors", "device", "storage", "data", "vit", "latents", "replay", "learning", "runs"},
}


def room(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    """Full names of everything a module imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(SOURCE)))
def test_imports_go_from_left_to_right(module: Path) -> None:
    if room(module) not in ALLOWED:
        return
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("vitlr.") and "__" not in name}
    assert rooms <= ALLOWED[room(module)] | {room(module)}


@pytest.mark.parametrize("where", ["data", "report"])
def test_rooms_without_tensors_never_import_torch(where: str) -> None:
    for module in MODULES:
        if room(module) == where:
            assert not {name for name in imports(module) if name.split(".")[0] == "torch"}, module


def test_nothing_is_unpickled_evaluated_or_loaded_as_unsafe_yaml() -> None:
    forbidden_imports = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    for module in MODULES:
        assert not {name.split(".")[0] for name in imports(module)} & forbidden_imports, module
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            assert call not in {
                "eval",
                "exec",
                "torch.load",
                "torch.save",
                "yaml.load",
                "yaml.unsafe_load",
            }, f"{module}:{node.lineno} calls {call}"
            if call in {"np.load", "numpy.load"}:
                assert "allow_pickle=False" in ast.unparse(node), f"{module}:{node.lineno}"


def test_every_public_name_exists() -> None:
    for module in MODULES:
        if module.parts[-2:] in (("app", "page.py"), ("app", "server.py")) and find_spec("gradio") is None:
            continue  # the extra app is not installed
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                dotted = ".".join(module.relative_to(SOURCE.parent).with_suffix("").parts)
                loaded = __import__(dotted.removesuffix(".__init__"), fromlist=["_"])
                missing = [name for name in ast.literal_eval(node.value) if not hasattr(loaded, name)]
                assert not missing, f"{dotted}: {missing}"
