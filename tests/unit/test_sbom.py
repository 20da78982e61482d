"""The bill of materials names what the wheel depends on."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def test_each_dependency_is_a_component_and_each_reference_has_one() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/sbom"], capture_output=True, check=True, timeout=60)
    document = json.loads(done.stdout)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    named = {component["name"] for component in document["components"]}
    assert wanted <= named
    known = {component["bom-ref"] for component in [*document["components"], document["metadata"]["component"]]}
    for entry in document["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= known
