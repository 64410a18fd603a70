"""Folders in which bases are written: no base before they are whole, and swept when their process has died."""

import subprocess
import sys
from pathlib import Path

from neuromas.base.draft import base_draft

WRITES = """
import sys
from pathlib import Path
from neuromas.base.draft import base_draft
with base_draft(Path(sys.argv[1])) as draft:
    (draft / "model.safetensors").write_bytes(b"half")
    print(draft.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_goes_on_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = other.stdout.readline().strip()
        with base_draft(tmp_path) as mine:
            assert {path.name for path in tmp_path.iterdir()} == {theirs, mine.name}
        other.kill()
        other.wait()
    assert [path.name for path in tmp_path.iterdir()] == [theirs]
    with base_draft(tmp_path) as mine:
        assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert list(tmp_path.iterdir()) == []
