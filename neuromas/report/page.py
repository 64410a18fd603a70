"""One self-contained HTML file about a run or a comparison: no script, no font and no image from elsewhere.

Its content policy lets no other script run than its own, whatever text of a model were to become markup.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from neuromas.adapters.families.registry import FAMILIES
from neuromas.errors import SpecError
from neuromas.journal import lines as journal
from neuromas.journal.folder import REPORT_FILE
from neuromas.report import graph, sections
from neuromas.report.data import RunData
from neuromas.report.markup import Markup, element, join
from neuromas.report.script import asset, script
from neuromas.report.verdict import verdict
from neuromas.tasks.registry import task_spec


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run folder or comparison folder and return its path.

    Raises:
        SpecError: the folder is neither.
    """
    path = folder / REPORT_FILE
    journal.write_whole(path, render(RunData.read(folder)).encode())
    return path


def render(data: RunData) -> str:
    """Return the page."""
    code = script()
    style = "".join(asset(f"{name}.css") for name in ("palette", "report", "drawing"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(code)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{data.name} - NeuroMAS"),
        element("style", Markup(style)),
    )
    parts = _comparison_parts(data) if data.comparison else _run_parts(data)
    missing = element(
        "noscript", element("p", "The drawings and messages need JavaScript; all else is here without it.")
    )
    body = element("body", element("main", missing, parts), element("script", Markup(code)))
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _policy(code: str) -> str:
    digest = b64encode(sha256(code.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'"


def _run_parts(data: RunData) -> list[Markup]:
    return [
        _header(data),
        sections.tiles(data),
        sections.task(data),
        sections.learning(data),
        graph.graph(data),
        sections.growth(data),
        sections.analysis(data),
        sections.diagnosis(data),
        graph.questions(data),
        graph.rollouts(data),
        sections.nodes(data),
        sections.accuracy(data),
        sections.cost(data),
        sections.caveats(data),
        sections.details(data),
    ]


def _comparison_parts(data: RunData) -> list[Markup]:
    parts = [_header(data)]
    for group in data.comparison.get("groups", ()):
        parts.append(sections.comparison(data, group))
        first = group["arms"][0]["runs"][0]
        if (data.folder / first["folder"]).is_dir():
            shown = RunData.read(data.folder / first["folder"])
            title = f"The {group['arms'][0]['title']}, seed {first['seed']}"
            parts += [graph.graph(shown, title), sections.growth(shown), graph.rollouts(shown)]
    return [*parts, sections.caveats(data), sections.runs(data), sections.details(data)]


def _header(data: RunData) -> Markup:
    kicker = "NeuroMAS comparison" if data.comparison else "NeuroMAS run"
    lines = [element("p", kicker, class_="kicker"), element("h1", data.name)]
    if data.result.get("accuracy"):
        lines.append(element("p", verdict(data.result), class_="outcome"))
    if summary := _summary(data):
        lines.append(element("p", summary))
    return element("header", join(lines))


def _summary(data: RunData) -> str:
    if not data.spec:
        return str(data.comparison.get("summary", ""))
    first = data.stages[0].topology if data.stages else None
    last = data.topology
    size = "A graph" if last is None else f"{len(last.nodes)} node" + "s" * (len(last.nodes) != 1)
    if first is not None and last is not None and len(first.nodes) != len(last.nodes):
        size += f", grown from {len(first.nodes)},"
    steps = sum(stage.steps for stage in data.stages)
    return (
        f"{size} on one frozen base ({_base(data)}), {_adapters(data)}, trained jointly for {steps} "
        f"steps on {_task(data)} from one shared terminal reward. Seed {data.spec.get('seed', '?')}."
    )


def _adapters(data: RunData) -> str:
    """Return what kinds of adapters the nodes have."""
    usual = _adapter(data.spec.get("adapter", {}))
    groups = data.spec.get("node_groups", {})
    if not groups:
        return f"each with {usual}"
    others = [f"those of group {name} with {_adapter(group['adapter'])}" for name, group in groups.items()]
    return f"each with {usual}, but {' and '.join(others)}"


def _adapter(section: Mapping[str, Any]) -> str:
    family = FAMILIES.get(str(section.get("type")))
    method = "an adapter" if family is None else f"{family.article} {family.title} adapter"
    beside = frozenset() if family is None else family.no_sizes
    sizes = [f"{name} {value}" for name, value in section.items() if type(value) is int and name not in beside]
    return f"{method} of {' and '.join(sizes) or 'unknown size'}"


def _base(data: RunData) -> str:
    base = str(data.spec.get("base", "unknown"))
    return Path(base).name if Path(base).is_absolute() else base


def _task(data: RunData) -> str:
    try:
        return task_spec(data.spec.get("task", {})).describe()
    except SpecError:  # of a package that is not installed here
        return "its task"
