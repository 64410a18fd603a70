"""Tests can fail, always run, wait for what they expect, and try the program itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[1]
FILES = {path.relative_to(FOLDER).as_posix(): ast.parse(path.read_text()) for path in sorted(FOLDER.rglob("*.py"))}
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Beside `assert`: calls that fail by themselves.
CHECKS = {"raises", "warns", "fail", "assert_close", "assert_allclose", "check_multiagent_environments", "expect"}
SKIPS = {"skip", "skipif", "importorskip", "xfail"}
# These state that nothing is raised.
MAY_ONLY_RETURN = {
    "unit/test_api_bounds.py::test_documents_of_another_form_are_left_to_the_reader",
    "unit/test_api_bounds.py::test_plans_of_another_form_are_left_to_the_reader",
    "unit/test_base_record.py::test_a_run_that_recorded_no_base_passes",
    "unit/test_growth_evidence.py::test_every_arm_is_a_spec_that_can_run",
    "unit/test_verify.py::test_long_hostile_texts_are_read_to_their_end",
}
MAY_SKIP = {"unit/test_deploy_compose.py": "docker is no part of the development tools"}


def functions() -> Iterator[tuple[str, Function]]:
    for name, tree in FILES.items():
        yield from ((name, node) for node in ast.walk(tree) if isinstance(node, Function))


def called(node: ast.AST) -> Iterator[str]:
    """The last names of the functions that are called in here."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            yield ast.unparse(call.func).rpartition(".")[2]


def asserting() -> set[str]:
    """Names of functions that assert, by themselves or through others."""
    bodies: dict[str, list[Function]] = {}
    for _, function in functions():
        bodies.setdefault(function.name, []).append(function)
    found = set(CHECKS)
    found |= {
        name for name, many in bodies.items() if any(isinstance(n, ast.Assert) for f in many for n in ast.walk(f))
    }
    while more := {name for name, many in bodies.items() if any(found & set(called(f)) for f in many)} - found:
        found |= more
    return found


def test_every_test_asserts_something() -> None:
    known = asserting()
    silent = {f"{name}::{f.name}" for name, f in functions() if f.name.startswith("test_") and f.name not in known}
    assert silent == MAY_ONLY_RETURN


def test_no_test_is_skipped_and_none_may_fail() -> None:
    found = {
        name
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in SKIPS
    }
    assert found == set(MAY_SKIP)


def test_test_files_do_not_sleep() -> None:
    sleeping = {
        f"{name}:{call.lineno}"
        for name, tree in FILES.items()
        if not name.startswith("support/")
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("time.sleep", "sleep")
    }
    assert sleeping == set(), "support/waiting.py waits until something is so"


def test_nothing_is_mocked() -> None:
    mocking = {
        name
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"))
        or (isinstance(node, ast.Import) and any(alias.name.startswith("unittest") for alias in node.names))
    }
    assert mocking == set()
