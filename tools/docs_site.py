"""What `mkdocs` adds to docs/: a page of the API for each room, and two files of the repository's root.

MkDocs calls ``on_files`` because mkdocs.yml lists this file under ``hooks``. A page of the API lists every module of a
room that has an ``__all__``, so that a module that is added or renamed needs no change here.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
ROOMS = (
    "classifier",
    "data",
    "vit",
    "latents",
    "replay",
    "learning",
    "evaluation",
    "runs",
    "report",
    "rendered",
    "storage",
    "app",
)
OF_THE_ROOT = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def public_modules(room: str) -> list[str]:
    """Dotted names of a room's modules that define something public, the package itself left out."""
    found = []
    for path in sorted((SOURCE / "vitlr" / room).rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = [
            node
            for node in body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if names and ast.literal_eval(names[0].value) and path.name != "__init__.py":
            found.append(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    return found


def page_of(room: str) -> str:
    """Markdown from which mkdocstrings makes the page of a room."""
    summary = (
        ast.get_docstring(ast.parse((SOURCE / "vitlr" / room / "__init__.py").read_text(encoding="utf-8")))
        or ""
    )
    parts = [f"# vitlr.{room}", summary, *(f"::: {name}" for name in public_modules(room))]
    return "\n\n".join(parts) + "\n"


def root_page(name: str) -> str:
    """A file of the root, its links as they are seen from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for page, other in OF_THE_ROOT.items():
        text = text.replace(f"]({other})", f"]({page})")
    return text


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those in docs/."""
    from mkdocs.structure.files import File

    pages = {f"api/{room}.md": page_of(room) for room in ROOMS}
    pages |= {page: root_page(name) for page, name in OF_THE_ROOT.items()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files
