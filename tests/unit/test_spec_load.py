from pathlib import Path

import pytest

from neuromas.errors import SpecError
from neuromas.spec.load import is_topology_document, load_document, load_spec, load_topology


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = write(tmp_path, "run.toml", '[topology]\nchain = 3\n[task]\ntype = "chain"\n[training]\nsteps = 7\n')
    json = write(
        tmp_path, "run.json", '{"topology": {"chain": 3}, "task": {"type": "chain"}, "training": {"steps": 7}}'
    )
    assert load_spec(toml) == load_spec(json)
    assert load_spec(toml).training.steps == 7


def test_overrides_come_before_the_checks(tmp_path: Path) -> None:
    path = write(tmp_path, "run.toml", '[topology]\nchain = 999\n[task]\ntype = "chain"\n')
    assert load_spec(path, ["topology.layers=[2]", "task.hops=2"]).topology.order == ("n1", "n2", "n3")


def test_a_bare_topology(tmp_path: Path) -> None:
    path = write(tmp_path, "graph.json", '{"name": "paper-7", "layers": [2, 2, 2]}')
    assert is_topology_document(load_document(path))
    assert load_topology(path).name == "paper-7"
    assert load_topology(path, ["chain=2"]).depth == 2


def test_a_run_spec_is_no_bare_topology() -> None:
    assert not is_topology_document({"topology": {"chain": 3}, "task": {"type": "chain"}})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "steps = = 3", "a.toml: not valid TOML: .*line 1"),
        ("a.json", '{"a": 1,}', "a.json: not valid JSON: .*line 1"),
        ("a.json", "[1]", "got JSON of type list, expected an object"),
        ("a.json", '{"a": {"b": 1, "b": 2}}', "a.json: not valid JSON: b: given twice in one object"),
        ("a.json", '{"a": NaN}', "got NaN, expected a finite number"),
        ("a.yaml", "a: 1", "got suffix '.yaml', allowed are .toml and .json"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_document(write(tmp_path, name, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"run\.toml does not exist; name a spec file"):
        load_document(tmp_path / "run.toml")


def test_a_folder_is_answered_with_the_specs_in_it(tmp_path: Path) -> None:
    for name in ("b.toml", "a.json", "notes.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(SpecError, match=r"is a folder; name a file in it: a\.json, b\.toml$"):
        load_document(tmp_path)


def test_a_base_that_is_a_path_is_relative_to_its_file_and_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("specs/bases/own", "specs/tiny", "work/bases/other"):
        (tmp_path / folder).mkdir(parents=True)
    file = tmp_path / "specs" / "run.toml"
    text = 'base = "BASE"\ntopology = {chain = 1}\ntask = {type = "chain"}\n'
    monkeypatch.chdir(tmp_path / "work")

    def base(written: str, *overrides: str) -> str:
        file.write_text(text.replace("BASE", written))
        return load_spec(file, overrides).base

    assert base("bases/own") == base("./bases/own") == str(tmp_path / "specs/bases/own")
    assert base("tiny") == "tiny"
    assert base("owner/model") == "owner/model"
    assert base("bases/other") == str(tmp_path / "work/bases/other")
    assert base("tiny", "base=bases/other") == str(tmp_path / "work/bases/other")
    assert base("tiny", "base=../specs/bases/own") == str(tmp_path / "specs/bases/own")
