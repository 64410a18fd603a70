"""Limits on the source that keep it readable: one noun per file, short functions, documented public names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import neuromas

ROOT = Path(neuromas.__file__).parents[1]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
PRODUCT = sorted(path for folder in ("neuromas", "services") for path in (ROOT / folder).rglob("*.py"))
ALL = PRODUCT + sorted(path for folder in ("tests", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py"))

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def place(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def public_definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    for statement in body:
        if isinstance(statement, Definition) and not statement.name.startswith("_"):
            yield statement
            if isinstance(statement, ast.ClassDef):
                yield from public_definitions(statement.body)


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def test_files_are_short() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_files_are_named_after_what_they_hold() -> None:
    named = {place(path): {path.stem, *path.relative_to(ROOT).parent.parts} for path in ALL}
    assert [path for path, words in named.items() if words & FORBIDDEN_NAMES] == []


def test_functions_are_short() -> None:
    too_long = {}
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
                if lines > MAX_FUNCTION_LINES:
                    too_long[f"{place(path, node.lineno)} {node.name}"] = lines
    assert too_long == {}


def test_modules_and_public_names_have_docstrings() -> None:
    bare = []
    for path in PRODUCT:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and ast.get_docstring(tree) is None:
            bare.append(place(path))
        bare += [
            f"{place(path, node.lineno)} {node.name}"
            for node in public_definitions(tree.body)
            # What overrides a library's method is documented there, an overload at the implementation.
            if ast.get_docstring(node) is None
            and not {"override", "overload"} & set(map(ast.unparse, node.decorator_list))
        ]
    assert bare == []
