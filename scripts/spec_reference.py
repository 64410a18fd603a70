"""Writes docs/run-spec.md from the spec's own classes: ``spec_reference.py [--check]``.

Types, defaults, bounds and explanations are those that validation uses, so the page cannot say anything else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from neuromas.adapters.families.registry import FAMILIES as ADAPTERS
from neuromas.spec import growth, machine, node_groups, parts, training
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import FAMILIES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "run-spec.md"
EDITS: tuple[type[BaseModel], ...] = get_args(get_args(growth.EditSpec)[0])
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("(top level)", RunSpec),
    *((f"task, type = {name}", family) for name, family in FAMILIES.items()),
    *((f"adapter, type = {name}", family) for name, family in ADAPTERS.items()),
    ("node_groups.NAME", node_groups.NodeGroupSpec),
    ("prompt", parts.PromptSpec),
    ("prompt.demonstrations[]", parts.DemonstrationSpec),
    ("sampling", parts.SamplingSpec),
    ("training", training.TrainingSpec),
    ("training.entropy", training.EntropySpec),
    ("growth", growth.GrowthSpec),
    ("growth.plans[]", growth.PlanSpec),
    *((f"growth.plans[].edits[], edit = {get_args(edit.model_fields['edit'].annotation)[0]}", edit) for edit in EDITS),
    ("growth.plans[].inherit", growth.InheritanceSpec),
    ("growth.trigger", growth.TriggerSpec),
    ("growth.trial", growth.TrialSpec),
    ("evaluation", machine.EvaluationSpec),
    ("engine", machine.EngineSpec),
    ("runtime", machine.RuntimeSpec),
    ("checkpoint", machine.CheckpointSpec),
    ("tracking", machine.TrackingSpec),
)
HEADER = """\
# Run spec

<!-- Written by scripts/spec_reference.py (`make docs`); edit the docstrings in neuromas/spec instead. -->

A run spec is one TOML or JSON file. Unknown keys are refused, and everything that is wrong is reported at once, with
its path. `neuromas validate SPEC` checks a file and shows what it needs; `--set key=value` replaces any value, as in
`--set training.steps=20 --set topology.chain=7`. The resolved spec, with every default filled in, is saved in the run's
folder. Only `topology` and `task` have no default. Topologies: [topology-spec.md](topology-spec.md); growth edits:
[growth.md](growth.md).
"""


def render() -> str:
    """Return the page."""
    parts_of_page = [HEADER]
    for title, model in SECTIONS:
        parts_of_page.append(f"## {title}\n\n{_one_line(model.__doc__)}\n")
        rows = [_row(name, field) for name, field in model.model_fields.items()]
        parts_of_page.append("| key | values | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts_of_page)


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", _values(field), _default(field), _one_line(field.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(field: FieldInfo) -> str:
    bounds = []
    for rule in field.metadata:
        match rule:
            case WithJsonSchema(json_schema={"enum": names}):
                return ", ".join(f"`{name}`" for name in names)
            case Ge(ge=bound):
                bounds.append(f">= {bound}")
            case Gt(gt=bound):
                bounds.append(f"> {bound}")
            case Le(le=bound):
                bounds.append(f"<= {bound}")
            case Lt(lt=bound):
                bounds.append(f"< {bound}")
    return ", ".join([_type(field.annotation), *dict.fromkeys(bounds)])


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Mapping:
        return f"{_type(arguments[1])} for each name"
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if arguments:
        return " or ".join(dict.fromkeys(_type(argument) for argument in arguments))
    if annotation is type(None):
        return "none"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a table"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true, false", "Topology": "a topology"}
    return names.get(annotation.__name__, annotation.__name__)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
        return "see below"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip().replace("``", "`")


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == render() else f"{PAGE} is out of date: make docs")
    PAGE.write_text(render(), encoding="utf-8")
