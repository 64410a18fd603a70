"""Nothing outside neuromas/tasks knows a family of tasks: what is asked of one is asked of its spec."""

import re
from pathlib import Path

from neuromas.tasks.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PYTHON = re.compile(
    "|".join([r"isinstance\([\w.]*\btask\b", r"\btask\.type\s*(==|!=|\bin\b)", r"match .*\btask", *(
        rf"\b{spec.__name__}\b" for spec in FAMILIES.values()
    )])
)  # fmt: skip
SCRIPT = re.compile(r"[tT]ask\w*(\.type)?\s*[=!]==?\s*[\"']|(" + "|".join(FAMILIES) + r"):\s*[\"']\w*Spec")


def test_no_python_outside_tasks_tells_families_apart() -> None:
    own = ROOT / "neuromas" / "tasks"
    files = [*(ROOT / "neuromas").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    found = [path for path in files if not path.is_relative_to(own) and PYTHON.search(path.read_text(encoding="utf-8"))]
    assert len(files) > 200
    assert found == []


def test_no_script_of_the_dashboard_tells_families_apart() -> None:
    files = list((ROOT / "services" / "web").rglob("*.js"))
    assert len(files) > 10
    assert [path.name for path in files if SCRIPT.search(path.read_text(encoding="utf-8"))] == []
