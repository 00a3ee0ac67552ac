"""The documents name files, sections, commands and flags that exist."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stdout, suppress
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

import vitlr
from vitlr.cli import main

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EACH_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
# Made by tools/docs_site.py when the site is built.
GENERATED = re.compile(r"docs/(api/\w+|changelog|contributing)\.md")
FOLDERS = "src|tests|tools|benchmarks|stress|docs|recipes|notebooks"
# Rooms of the package by their short names, as the documents write them.
ROOMS = "classifier|commands|data|evaluation|latents|learning|rendered|replay|report|runs|storage|vit"
WITH_SUBCOMMANDS = ("data", "cache")


def anchors(document: Path) -> set[str]:
    """What a heading can be linked by, on GitHub and in the site alike."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[`*]", "", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\s-]", "", heading).strip().replace(" ", "-") for heading in plain}


@EACH_DOCUMENT
def test_every_relative_link_leads_to_a_file_and_a_section(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, section = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if GENERATED.fullmatch(path.relative_to(ROOT).as_posix()):
            continue
        assert path.exists(), f"{target} does not exist"
        assert not section or section in anchors(path), f"{target} has no such section"


@EACH_DOCUMENT
def test_every_file_of_the_project_that_a_document_names_exists(document: Path) -> None:
    if document.name in ("LOG.md", "CHANGELOG.md"):
        return  # which keep the names of their time
    text = document.read_text(encoding="utf-8")
    for name in re.findall(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]+\.(?:py|yaml|md|png|ipynb))", text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(rf"`((?:{ROOMS})/[\w./]+\.py)`", text):
        assert (ROOT / "src" / "vitlr" / name).is_file(), name


def documented_commands(document: Path) -> list[list[str]]:
    """Words of every ``vitlr`` line in a block of shell code and of every one in running text."""
    text = document.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`(vitlr [^`]+)`", text)
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip().startswith("vitlr ")]


@lru_cache
def flags_in_help(*command: str) -> set[str]:
    """Every flag that ``vitlr COMMAND --help`` mentions."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main([*command, "--help"])
    return {flag.replace("_", "-") for flag in re.findall(r"--[a-z][\w.-]*", printed.getvalue())}


@EACH_DOCUMENT
def test_every_documented_command_and_flag_exists(document: Path) -> None:
    if document.name in ("LOG.md", "CHANGELOG.md"):
        return
    for words in documented_commands(document):
        command = words[: 2 if words[0] in WITH_SUBCOMMANDS else 1]
        known = flags_in_help() if words[0].startswith("-") else flags_in_help(*command)
        assert known, f"vitlr {' '.join(command)} is no command"
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert flag.replace("_", "-") in known, f"vitlr {' '.join(command)} has no {flag}"


def test_the_changelog_has_a_section_for_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(vitlr.__version__)} - ", text, re.MULTILINE)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == vitlr.__version__ and citation["cff-version"] == "1.2.0"
    assert all("authors" in reference and "title" in reference for reference in citation["references"])
