"""The import contract names every package, so that a new one cannot stand outside of it."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.container import not_in_the_container

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {"__main__"}


def _contracts() -> list[dict]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_every_package_has_its_layer() -> None:
    (layers,) = [c["layers"] for c in _contracts() if c["name"] == "one way through the house"]
    named = {module.split(".")[1] for layer in layers for module in layer.split(" | ")}
    there = {p.stem for p in (ROOT / "sevkit").iterdir() if (p / "__init__.py").exists() or p.suffix == ".py"}
    assert there - {"__init__"} - OUTSIDE == named


def test_every_core_package_is_kept_from_the_user_interface() -> None:
    (contract,) = [c for c in _contracts() if c["name"] == "core code knows no user interface"]
    packages = {p.name for p in (ROOT / "sevkit").iterdir() if (p / "__init__.py").exists()}
    assert {f"sevkit.{name}" for name in packages - {"cli", "render"}} == set(contract["source_modules"])


@not_in_the_container("the container's tree is read-only")
def test_the_picture_of_the_architecture_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/architecture", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
