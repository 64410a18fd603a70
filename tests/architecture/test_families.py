"""Families of adapters are known where they are, and nowhere else."""

import ast
import re
from pathlib import Path

from neuromas.adapters.families.registry import FAMILIES

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / "neuromas" / "adapters" / "families"


def mentions(text: str) -> set[str]:
    """Return family names and names of their classes in a program's strings and names."""
    classes = {family.__name__ for family in FAMILIES.values()}
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in FAMILIES:
            found.add(node.value)
        elif isinstance(node, ast.Name | ast.alias | ast.Attribute):
            name = {ast.Name: "id", ast.alias: "name", ast.Attribute: "attr"}[type(node)]
            found |= {getattr(node, name)} & classes
    return found


def test_no_program_outside_the_families_names_one():
    files = [file for room in ("neuromas", "services", "scripts") for file in (ROOT / room).rglob("*.py")]
    outside = [file for file in files if not file.is_relative_to(HOME)]
    assert len(outside) > 200
    assert {str(file): found for file in outside if (found := mentions(file.read_text()))} == {}


def test_no_page_of_the_dashboard_names_a_family():
    words = re.compile("|".join(rf"""["'`]{name}["'`]""" for name in FAMILIES))
    pages = list((ROOT / "services" / "web").rglob("*.js"))
    assert len(pages) > 20
    assert [str(page) for page in pages if words.search(page.read_text())] == []


def test_mentions_are_found():
    assert mentions('kind == "unilora"') == {"unilora"}
    assert mentions("from x import LoraSpec\nLoraSpec()") == {"LoraSpec"}
    assert mentions("'the lora folder'; lora = 1") == set()
