"""The comparison with what a user would run instead: how it measures, and the table that it writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.figures import Figures, Program, figures, last_words, measure
from benchmarks.peers.process_tree import MARK, ProcessTree, cpu_s_of, held_bytes_of
from benchmarks.peers.questions import make_work
from benchmarks.peers.table import Record, caption, markdown
from benchmarks.peers.work import StepLog, Work

STAT = "7 (a) b) S 1 7 7 0 -1 4194560 9 9 0 0 {} {} {} {} 20 0 1 0 555 1 1"


def test_processor_seconds_are_those_of_user_system_and_ended_children() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert cpu_s_of(STAT.format(ticks, 2 * ticks, 4 * ticks, 8 * ticks)) == 15.0


def test_shared_pages_count_once() -> None:
    assert held_bytes_of("00 ---p 00 00:00 0 [rollup]\nRss:    900 kB\nPss:    300 kB\nPss_Anon: 1 kB\n") == 307_200
    with pytest.raises(ProcessLookupError):
        held_bytes_of("")


def test_children_are_counted_and_others_are_not() -> None:
    inner = "print(sum(range(10**6)), flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    marked, other = ProcessTree("mine"), ProcessTree("another")
    command, environment = [sys.executable, "-c", code], os.environ | {MARK: "mine"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "499999500000\n"
        marked.look()
        other.look()
        alone = held_bytes_of(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        assert marked.cpu_s() > 0 == other.cpu_s()
        assert marked.peak_bytes > 1.5 * alone > other.peak_bytes == 0
        process.stdin.write("\n")
        process.stdin.close()


def test_figures_are_of_one_step() -> None:
    program = Program([], Path("log"), read="in", generated="out")
    lines = ['{"in": 100, "out": 10}', '{"in": 300, "out": 20}']
    assert figures(lines, program, cpu_s=5, wall_s=3, peak_bytes=4_000_000) == Figures(2.5, 1.5, 4.0, 200, 15)


def test_who_fails_is_told_of_by_the_last_line(tmp_path: Path) -> None:
    program = Program([sys.executable, "-c", "raise ValueError('no weights')"], tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"^ValueError: no weights$"):
        measure(program, 1, 1, tmp_path / "output.txt")
    assert last_words("first\n\x1b[0mlast \n\n") == "[0mlast"
    assert last_words("") == ""


def test_agents_read_the_question_and_what_the_one_before_stated() -> None:
    work = make_work(nodes=2, steps=2)
    first, second = (prompts[0] for prompts in work.prompts)
    question = first.partition(" @ ")[0]
    assert first == f"{question} @ L1 N1 >"
    assert second == f"{question} @ L2 N1 | L1 N1 : {work.answers[0][0]} >"
    assert [work.prompt_tokens[agent][0] for agent in range(2)] == [len(first.split()), len(second.split())] == [25, 31]
    assert work.read_tokens(1) == 24 * 8 * (25 + 31)


def test_a_step_is_noted_with_its_tokens(tmp_path: Path) -> None:
    work = Work("tiny", 1, 2, 1, 8, 4, 1, [], 0.01, [["a", "a b"]], [[1, 2]], [["", ""]])
    work.write(tmp_path / "work.json")
    log = StepLog(tmp_path / "log", Work.read(tmp_path / "work.json"))
    log.add(30)
    log.add(31)
    assert (tmp_path / "log").read_text().splitlines() == [
        '{"step": 1, "read": 8, "generated": 30}',
        '{"step": 2, "read": 16, "generated": 31}',
    ]


def test_the_table_has_ratios_of_the_same_round(tmp_path: Path) -> None:
    def records(peer: str, *cpu_s: float) -> list[Record]:
        costs = [Figures(cpu, 2 * cpu, 1234.4, 10_752, 1_310) for cpu in cpu_s]
        loads = [{"processor": "A chip", "cores": 2, "load_1min": turn + 0.1} for turn in range(3)]
        return [Record(turn, 2, peer, cost, steps=4, machine=loads[turn]) for turn, cost in enumerate(costs)]

    found = [
        *records("NeuroMAS", 1.0, 2.0, 4.0),
        *records("TRL", 3.0, 4.0, 16.0),
        Record(0, 2, "TRL, vLLM", None, "AttributeError: weight_loader"),
    ]
    for number, record in enumerate(found):
        record.write(tmp_path / str(number))
    read = [Record.read(tmp_path / str(number)) for number in range(len(found))]
    assert caption(read) == "3 rounds of 4 steps, A chip, load 0 to 2; cores 2."
    assert markdown(read, wall=False).splitlines() == [
        "| nodes | who | CPU s a step | over NeuroMAS | peak memory, MB | tokens read, generated |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 2 | NeuroMAS | 2.00 | 1.00 (1.00 to 1.00) | 1,234 | 10,752, 1,310 |",
        "| 2 | TRL | 4.00 | 3.00 (2.00 to 4.00) | 1,234 | 10,752, 1,310 |",
        "| 2 | TRL, vLLM | failed: AttributeError: weight_loader |  |  |  |",
    ]
    assert markdown(read[:1], wall=False).splitlines()[2].startswith("| 2 | NeuroMAS | 1.00 | 1.00 | ")
    assert markdown(read, wall=True).splitlines()[3] == (
        "| 2 | TRL | 4.00 | 3.00 (2.00 to 4.00) | 8.00 | 3.00 (2.00 to 4.00) | 1,234 | 10,752, 1,310 |"
    )
