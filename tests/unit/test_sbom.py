"""The bill of materials names what the wheel depends on."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
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


def test_an_image_lists_its_debian_packages_too() -> None:
    """Read from standard input, as in a container, which has the sources nowhere."""
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("not a Debian-based system")
    code = (ROOT / "scripts/sbom").read_bytes()
    done = subprocess.run([sys.executable, "-", "--image"], input=code, capture_output=True, check=True, timeout=60)
    document = json.loads(done.stdout)
    components = {component["bom-ref"]: component for component in document["components"]}
    assert len(components) == len(document["components"])
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"], capture_output=True, check=True
    )
    wanted = {tuple(line.split()[1:]) for line in shown.stdout.decode().splitlines() if line.startswith("installed ")}
    found = {(c["name"], c["version"]) for ref, c in components.items() if ref.startswith("pkg:deb/")}
    assert wanted
    assert found == wanted
    assert any(ref.startswith("pkg:pypi/click@") for ref in components)
