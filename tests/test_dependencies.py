"""What is imported is declared, what is declared is pinned, and the library needs nothing of the app."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import EXAMPLE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Extras that a part of the package may use on top of the dependencies; other parts only inside functions that say so.
PARTS = {"app": "app", "sharing": "app", "templates": "app", "training": "train"}
OPTIONAL = {("model/features.py", "dino"), ("reconstruction/perceptual.py", "perceptual"), ("cli/train.py", "train")}
ONLY_OF_THE_APP = ("gradio", "spaces", "starlette", "jinja2", "markupsafe", "anyio", "multipart", "python_multipart")


def declared(extra: str | None = None) -> dict[str, Requirement]:
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def pins() -> dict[str, str]:
    found = {}
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                pin = Requirement(line)
                (specifier,) = pin.specifier
                assert specifier.operator == "==", line
                found[canonicalize_name(pin.name)] = specifier.version
    return found


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for extra in (None, *PROJECT["optional-dependencies"]):
        for name, requirement in declared(extra).items():
            assert name in pinned, f"{name} has no tested version"
            assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes the tested {pinned[name]}"


def imported(path: Path) -> Iterator[str]:
    """Top-level names of the absolute imports anywhere in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def test_every_import_is_declared_where_it_is_used() -> None:
    distributions = packages_distributions()
    wrong = []
    for path in sorted((ROOT / "flexavatar").rglob("*.py")):
        inside = path.relative_to(ROOT / "flexavatar")
        if inside.parts[:2] == ("rig", "build"):  # run by hand, with what docs/rig.md says
            continue
        extras = {PARTS[inside.parts[0]]} if inside.parts[0] in PARTS else set()
        extras |= {extra for name, extra in OPTIONAL if name == inside.as_posix()}
        allowed = set(declared()).union(*(declared(extra) for extra in extras))
        for name in set(imported(path)) - set(sys.stdlib_module_names) - {"flexavatar"}:
            owners = {canonicalize_name(each) for each in distributions.get(name, [name])}
            if not owners & allowed:
                wrong.append(f"{inside} imports {name}")
    assert not wrong


@pytest.mark.timeout(200)
def test_the_library_and_its_commands_need_no_app(tmp_path: Path) -> None:
    """In an interpreter in which nothing of the app can be imported."""
    code = (
        "import sys\n"
        f"for name in {ONLY_OF_THE_APP}: sys.modules[name] = None\n"
        "import flexavatar\n"
        "from flexavatar.cli import main\n"
        f"code = main(['create', {str(EXAMPLE)!r}, '-o', 'a.flexavatar', '--model', 'rig', '--export', '.ply'])\n"
        "assert code == 0, code\n"
        "assert main(['bake', 'a.flexavatar', '-o', 'a.flexbundle', '--help']) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=180, cwd=tmp_path)
    assert (tmp_path / "a.ply").stat().st_size > 100_000
