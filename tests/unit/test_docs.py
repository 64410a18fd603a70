"""The pages say what is so: commands parse, links lead somewhere, the reference is the spec's."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import neuromas
import neuromas as nm
from neuromas.cli.program import make_parser
from neuromas.schema.parse import parse_section
from neuromas.spec.growth import GrowthSpec, PlanSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.parts import PromptSpec
from neuromas.spec.run import RunSpec

ROOT = Path(neuromas.__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [ROOT / "README.md", ROOT / "docs" / "service.md", ROOT / "docs" / "your-own.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def code_blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    lost = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert lost == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_commands_of_the_guides_parse(guide: Path) -> None:
    blocks = code_blocks("bash", guide.read_text(encoding="utf-8"))
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("neuromas ")]
    assert len(commands) >= 6
    for command in commands:
        assert make_parser().parse_args(command).module


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "your-own.md"], ids=lambda page: page.name)
def test_python_of_the_pages_uses_names_and_arguments_that_exist(page: Path) -> None:
    calls = [
        node
        for block in code_blocks("python", page.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("nm.")
    ]
    assert len(calls) >= 5
    for call in calls:
        function = getattr(nm, ast.unparse(call.func).removeprefix("nm."))
        keywords = {str(keyword.arg): None for keyword in call.keywords}
        inspect.signature(function).bind(*call.args, **keywords)


def test_targets_that_pages_name_are_in_the_makefile() -> None:
    named = {target for page in PAGES for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))}
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))


def test_spec_of_the_readme_is_valid() -> None:
    spec = parse_run_spec(tomllib.loads(code_blocks("toml")[0]))
    assert (spec.name, len(spec.topology.nodes)) == ("quickstart", 5)


def tables_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every table that a value may hold, its own among them."""
    for argument in get_args(annotation):
        yield from tables_of(argument)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from tables_of(field.annotation)


def test_every_table_of_the_run_spec_has_a_section_in_the_reference() -> None:
    page = (ROOT / "docs" / "run-spec.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^## .*\n\n(.*)$", page, flags=re.MULTILINE))
    told = {table: " ".join((table.__doc__ or "").replace("``", "`").split()) for table in tables_of(RunSpec)}
    assert [table.__name__ for table, text in told.items() if text not in described] == []


def test_plan_of_the_guide_is_valid() -> None:
    page = (ROOT / "docs" / "growth.md").read_text(encoding="utf-8")
    schedule, plan, prompt = map(tomllib.loads, code_blocks("toml", page))
    assert parse_section(PlanSpec, plan, "the plan").edits
    assert parse_section(GrowthSpec, schedule["growth"], "the schedule").levels == (3, 5, 7)
    assert parse_section(PromptSpec, prompt["prompt"], "the prompt").stop == ("\n",)


def test_reference_of_the_run_spec_is_up_to_date() -> None:
    check = [sys.executable, "scripts/spec_reference.py", "--check"]
    found = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stderr == ""
