"""The parts of a report, each made from a RunData; a part without data is empty."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from neuromas.growth.lineage import Descent, draw_lineage
from neuromas.journal.folder import REPORT_FILE
from neuromas.report.chart import drawn
from neuromas.report.data import Document, RunData
from neuromas.report.figures import arms_figure, node_figures, reward_figure, time_figure
from neuromas.report.markup import Child, Markup, element, join
from neuromas.report.numbers import chance, change, count, duration, percent, proportion

_COSTS = ("nodes", "calls_per_answer", "trainable_parameters", "rollouts", "calls", "tokens")
_UNTRAINED = {"greedy": "untrained", "sampled": "untrained_sampled"}


def section(title: str, *children: Child, note: str | None = None, wide: bool = False) -> Markup:
    """Return a titled part of the page; nothing when all children are empty."""
    content = [child for child in children if child]
    if not content:
        return Markup("")
    lead = element("p", note, class_="note") if note else None
    return element("section", element("h2", title), lead, *content, class_="wide" if wide else None)


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], numeric: int = 1) -> Markup:
    """Return a table that scrolls sideways on a phone; columns from ``numeric`` on are aligned as numbers."""
    body = [
        element("tr", [element("td", cell, class_="number" if at >= numeric else None) for at, cell in enumerate(row)])
        for row in rows
    ]
    if not body:
        return Markup("")
    top = [element("th", name, class_="number" if at >= numeric else None) for at, name in enumerate(head)]
    return element(
        "div",
        element("table", element("thead", element("tr", top)), element("tbody", body)),
        class_="scroll",
        tabindex="0",
        role="group",
        aria_label=", ".join(head),
    )


def tiles(data: RunData) -> Markup:
    """Return the figures one looks for first."""
    result = data.result
    spending = result.get("spending", {})
    shown = [
        *(_accuracy_tile(mode, result["accuracy"]) for mode in ("greedy", "sampled") if _has(result, mode)),
        ("trained parameters", count(result.get("trainable_parameters")), "of all adapters together"),
        ("rollouts", count(spending.get("rollouts")), f"{count(spending.get('calls'))} node calls"),
        ("tokens", count(_sum(spending, "prompt_tokens", "generated_tokens")), "read and written in training"),
        ("time", duration((result.get("seconds") or {}).get("total")), "start-up and evaluation included"),
    ]
    return element("div", [_tile(*entry) for entry in shown if entry[1]], class_="tiles")


def task(data: RunData) -> Markup:
    """Return a question of the task, with its answer."""
    example = next(iter(data.rollouts), None)
    if example is None:
        return Markup("")
    return section(
        "The task",
        element("p", str(example.get("question", "")), class_="question"),
        element("p", "right answer ", element("code", str(example.get("expected", ""))), class_="expected"),
        note="One of its questions. The nodes read it, pass messages on, and only the output's answer is scored.",
    )


def learning(data: RunData) -> Markup:
    """Return the reward curve."""
    return section("Learning", reward_figure(data), wide=True)


def nodes(data: RunData) -> Markup:
    """Return what each node does over time."""
    return section("Nodes over time", _grid(node_figures(data)), wide=True)


def accuracy(data: RunData) -> Markup:
    """Return held-out accuracies with their 95 % intervals: of every stage, and of the result."""
    rows, unasked = {}, 0
    for event in data.events_of("evaluated"):
        if event.get("purpose") != "check" and event.get("examples"):
            key = (event["stage"], event.get("level"), event["mode"])
            rows[key] = (float(event["correct"]), int(event["examples"]), event.get("bootstrap"))
            unasked = max(unasked, int(event.get("unasked", 0)))
    names = {stage.index: stage for stage in data.stages}
    cells = [
        (_stage_name(names.get(stage), stage), _dash(level), mode, "validation", *proportion(correct, total, bootstrap))
        for (stage, level, mode), (correct, total, bootstrap) in sorted(rows.items(), key=str)
    ]
    final = data.result.get("accuracy") or {}
    cells += [("result", "-", mode, "test", *_proportion(final[mode])) for mode in _UNTRAINED if mode in final]
    head = ("stage", "level", "decoding", "questions", "accuracy", "95 % interval", "correct")
    graded = any(bootstrap for _, _, bootstrap in rows.values())
    note = f"{'Bootstrap' if graded else 'Wilson'} intervals. Validation questions may have decided something, as "
    note += "when to grow; test questions did not."
    if unasked:
        note += f" Up to {unasked} could not be asked and count neither as right nor as wrong."
    return section("Held-out accuracy", table(head, cells, numeric=4), note=note)


def growth(data: RunData) -> Markup:
    """Return the stages of a run that grew, and the family tree."""
    if len(data.stages) < 2:
        return Markup("")
    rows = [
        (
            stage.name,
            _dash(stage.topology and len(stage.topology.nodes)),
            _dash(stage.level),
            str(stage.steps),
            stage.reason or "",
            ", ".join(stage.new_nodes) or "-",
        )
        for stage in data.stages
    ]
    head = ("stage", "nodes", "level", "steps", "ended by", "new nodes")
    return section("Growth", table(head, rows), _lineage(data))


def comparison(data: RunData, group: Document) -> Markup:
    """Return one group of a comparison: its table, and how its arms learned."""
    rows = [
        (
            _arm_name(arm),
            _over_seeds(arm, "greedy"),
            _over_seeds(arm, "sampled"),
            *(_change(arm.get("against", {}).get(mode)) for mode in ("greedy", "sampled")),
            *(count(arm.get(key)) for key in _COSTS),
            duration(arm.get("seconds") or None),
        )
        for arm in group["arms"]
    ]
    costs = ("nodes", "calls per answer", "parameters", "rollouts", "calls", "tokens", "time")
    head = ("system", "greedy", "sampled", "change, greedy", "change, sampled", *costs)
    seeds = group["seeds"]
    note = "Held-out accuracy, mean and range over the seeds " + ", ".join(map(str, seeds)) + "."
    if len(seeds) == 1:
        note = f"Held-out accuracy with its 95 % interval, seed {seeds[0]}."
    if any(arm.get("against") for arm in group["arms"]):
        note += f" Change: against {group['arms'][0]['title']}, paired by question, in points."
    return section(str(group["title"]), table(head, rows), arms_figure(data.folder, group), note=note, wide=True)


def runs(data: RunData) -> Markup:
    """Return the runs of a comparison, each with a link to its own report beside this one."""
    rows = [
        (
            element("a", run["folder"], href=f"{run['folder']}/{REPORT_FILE}"),
            str(group["title"]),
            str(run["steps"]),
            duration(run["seconds"]),
        )
        for group in data.comparison.get("groups", ())
        for arm in group["arms"]
        if arm.get("steps") and not arm.get("of")
        for run in arm["runs"]
    ]
    return section("Runs", table(("run", "group", "steps", "time"), rows, numeric=2))


def analysis(data: RunData) -> Markup:
    """Return what each message and each edge is worth and what nodes say, where the graph was analysed."""
    drawing = drawn("analysis", data.analysis) if data.analysis else None
    return section("What each message is worth", drawing, note="By neuromas analyze.")


def diagnosis(data: RunData) -> Markup:
    """Return what training can still move, where the graph was diagnosed."""
    drawing = drawn("diagnosis", data.diagnosis) if data.diagnosis else None
    return section("What training can still move", drawing, note="By neuromas diagnose.")


def cost(data: RunData) -> Markup:
    """Return where a step's time goes."""
    return section("Where a step goes", time_figure(data))


def details(data: RunData) -> Markup:
    """Return versions and the resolved spec."""
    versions = data.result.get("versions", {})
    rows = [(name, str(version)) for name, version in versions.items()]
    parts = [
        element("details", element("summary", title), content)
        for title, content in (
            ("Versions", table(("package", "version"), rows)),
            ("Spec", _code(data.spec) if data.spec else None),
            ("Result", _code(data.result) if data.result else None),
        )
        if content
    ]
    return section("Made with", *parts)


def caveats(data: RunData) -> Markup:
    """Return what the reader should keep in mind, as far as it concerns this run."""
    return section("Read this with care", element("ul", [element("li", text) for text in _caveats(data)]))


def _grid(figures: Sequence[Markup]) -> Markup | None:
    return element("div", figures, class_="grid") if figures else None


def _caveats(data: RunData) -> list[str]:
    groups = data.comparison.get("groups", ())
    base = (data.spec or next(iter(groups), {})).get("base")
    notes = []
    if all(len(group["seeds"]) == 1 for group in groups):
        notes.append("One seed. Another seed gives other figures; look at several before you conclude anything.")
    if base == "tiny":
        notes.append(
            "The tiny base was pretrained to state one fact and stop. What is shown is one short call against a graph "
            "of equally short calls, not against a single model that may think at length."
        )
        notes.append(
            "Greedy decoding can flatter an untrained graph: the most probable continuation of the base may happen to "
            "be the right one. Compare sampled with sampled."
        )
    if len(data.stages) > 1 or any(arm["arm"] == "grown" for group in groups for arm in group["arms"]):
        notes.append(
            "Growth here walks up the task's levels. It makes this curriculum usable; on a fixed task without levels "
            "no such gain has been measured."
        )
    told = (str(event["message"]) for event in data.events_of("notice") if event.get("severity") == "warning")
    return [*notes, *dict.fromkeys(told)]


def _proportion(entry: Document) -> tuple[str, str, str]:
    return proportion(float(entry["correct"]), int(entry["examples"]), (float(entry["low"]), float(entry["high"])))


def _accuracy_tile(mode: str, accuracy: Document) -> tuple[str, str, str]:
    entry, untrained = accuracy[mode], accuracy.get(_UNTRAINED[mode])
    before = f"; untrained {percent(untrained['value'])}" if untrained else ""
    return (
        f"accuracy, {mode}",
        percent(entry["value"]),
        f"{percent(entry['low'])} to {percent(entry['high'])} on test questions{before}",
    )


def _tile(title: str, value: str, note: str) -> Markup:
    return element(
        "div", element("span", title, class_="what"), element("b", value), element("span", note), class_="tile"
    )


def _has(result: Document, mode: str) -> bool:
    return mode in (result.get("accuracy") or {})


def _sum(document: Document, *names: str) -> int | None:
    found = [document[name] for name in names if name in document]
    return sum(found) if found else None


def _dash(value: object) -> str:
    return "-" if value is None else str(value)


def _stage_name(stage: Any, index: int) -> str:
    return stage.name if stage is not None else str(index)


def _lineage(data: RunData) -> Markup | None:
    entries = [Descent.from_document(document) for document in data.result.get("lineage", ())]
    return element("pre", draw_lineage(entries)) if len(entries) > 1 else None


def _arm_name(arm: Document) -> Markup:
    note = arm.get("note")
    return join([element("strong", str(arm["title"])), element("br"), element("small", str(note)) if note else None])


def _over_seeds(arm: Document, mode: str) -> Child:
    values = [run["accuracy"][mode] for run in arm.get("runs", ()) if mode in run.get("accuracy", {})]
    if not values:
        return "-"
    if len(values) == 1:
        only = values[0]
        return join([percent(only["value"]), element("small", f"{percent(only['low'])} to {percent(only['high'])}")])
    means = [entry["value"] for entry in values]
    low, high = min(means), max(means)
    return join([percent(sum(means) / len(means)), element("small", f"{percent(low)} to {percent(high)}")])


def _change(test: Document | None) -> Child:
    """Return a paired test against the first system: points with their 95 % interval, and the p-value."""
    if test is None:
        return "-"
    interval = f"{change(test['low'])} to {change(test['high'])}, p {chance(test['p_value'])}"
    return join([change(test["gain"]), element("small", interval)])


def _code(document: Document) -> Markup:
    return element("pre", json.dumps(document, indent=1, ensure_ascii=False, default=str))
