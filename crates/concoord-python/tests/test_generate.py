from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from concoord._generate import main

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("tencounter.py", "shapes.py"):
        shutil.copy(HERE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "concoord._generate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("name", ["tencounter.TenCounter", "shapes.Shapes"])
def test_the_proxy_is_as_it_was(folder: Path, name: str) -> None:
    """Set UPDATE_GOLDENFILES=1 to take what is written now for right."""
    made = generate("-o", name)
    module = name.partition(".")[0]
    path = folder / f"{module}proxy.py"
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == f"Client proxy file created with name:  {path}\n"
    for written in (path, path.with_suffix(".pyi")):
        golden = GOLDEN / written.name
        if os.environ.get("UPDATE_GOLDENFILES"):
            golden.write_text(written.read_text())
        assert written.read_text() == golden.read_text()


@pytest.mark.parametrize("name", ["tencounterproxy", "shapesproxy"])
def test_type_checkers_accept_the_stub(name: str) -> None:
    environment = {**os.environ, "MYPYPATH": str(HERE)}
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
               "--config-file=", "--cache-dir=/dev/null", str(GOLDEN / f"{name}.pyi")]  # fmt: skip
    checked = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert checked.returncode == 0, checked.stdout


def test_it_says_what_it_does(folder: Path) -> None:
    made = generate("-o", "tencounter.TenCounter", "-v")
    assert "Importing tencounter.TenCounter" in made.stdout
    assert "  getvalue (read-only)\n" in made.stdout


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nowhere.Thing", 4, "there is no module 'nowhere'"),
        ("tencounter.Nothing", 4, "module 'tencounter' has no class 'Nothing'"),
        ("broken.Thing", 4, "module 'broken' can't be imported"),
        ("builtins.int", 1, "builtins.int has no source file to put a proxy beside"),
    ],
)
def test_why_no_proxy_is_written(folder: Path, name: str, code: int, words: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    made = generate("-o", name)
    assert (made.returncode, made.stdout) == (code, "")
    assert made.stderr.startswith(f"concoord object: {words}")


def test_wrong_options_are_refused() -> None:
    assert generate().returncode == 2
    assert generate("-o", "a.B", "-t", "token").returncode == 2
    assert "-o OBJECTNAME" in generate("-h").stdout


def test_a_file_that_cannot_be_written_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "shapes", raising=False)
    # A folder in its place, since tests may run as root, which may write anywhere.
    (folder / "shapesproxy.py").mkdir()
    assert main(["-o", "shapes.Shapes"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "concoord object: can't write" in said.err
    assert sorted(path.name for path in folder.iterdir() if "new" in path.name) == []
    sys.modules.pop("shapes", None)
