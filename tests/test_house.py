"""The structure of the package, kept true: imports go one way, nothing unsafe is ever loaded."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

import vitlr

SOURCE = Path(vitlr.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))

# The order of the rooms. A module may import from its own room and from those before it; rooms in one line stand beside
# each other, and neither imports the other.
ORDER = (
    ("text",),
    ("errors",),
    ("device", "storage"),
    ("configuration",),
    ("data",),
    ("vit",),
    ("latents",),
    ("rendered", "replay"),
    ("learning",),
    ("evaluation",),
    ("report",),
    ("classifier", "runs"),
    ("attention",),
    ("app",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
# What may not be imported though it stands before: a report never sees a tensor, a memory never a model.
NEVER = {
    "data": {"device"},
    "rendered": {"device", "latents"},
    "replay": {"data", "vit"},
    "learning": {"data", "vit", "rendered"},
    "report": {"device", "data", "vit", "latents", "rendered", "replay", "learning"},
    "storage": {"device"},
    "configuration": {"device"},
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


def allowed(name: str) -> set[str]:
    """Rooms that a room may import from."""
    if name == "__init__":  # the package's front door
        return {"classifier", "errors"}
    place = next(number for number, rooms in enumerate(ORDER) if name in rooms)
    before = {room for rooms in ORDER[:place] for room in rooms} - NEVER.get(name, set())
    return before | {name}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(SOURCE)))
def test_imports_go_one_way(module: Path) -> None:
    names = {name.split(".")[1] for name in imports(module) if name.startswith("vitlr.")}
    rooms = {name for name in names if name in {room for rooms in ORDER for room in rooms}}
    assert rooms <= allowed(room(module))


def test_no_two_modules_of_a_room_import_each_other() -> None:
    dotted = {module: ".".join(module.relative_to(SOURCE.parent).with_suffix("").parts) for module in MODULES}
    names = {name.removesuffix(".__init__"): module for module, name in dotted.items()}

    def at_top(module: Path) -> set[str]:
        found = set()
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        return {name for name in found if name in names}

    graph = {name: at_top(module) - {name} for name, module in names.items()}
    # A package's own __init__ collects what its modules define; that is no circle.
    packages = {name for name, module in names.items() if module.name == "__init__.py"}
    for name in graph:
        graph[name] = {
            other for other in graph[name] if not (other in packages and name.startswith(f"{other}."))
        }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("where", ["configuration", "data", "report"])
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
        if module.parts[-2] == "app" and find_spec("starlette") is None:
            continue  # the extra app is not installed
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                dotted = ".".join(module.relative_to(SOURCE.parent).with_suffix("").parts)
                loaded = __import__(dotted.removesuffix(".__init__"), fromlist=["_"])
                missing = [name for name in ast.literal_eval(node.value) if not hasattr(loaded, name)]
                assert not missing, f"{dotted}: {missing}"
