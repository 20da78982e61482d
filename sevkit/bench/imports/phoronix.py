"""Results of the Phoronix Test Suite: composite.xml, and what result-file-to-json makes of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from sevkit.bench.imports.given import Given, Reading, Value, numbers, samples_of
from sevkit.bench.model import Direction, Metric, direction_of, sensible
from sevkit.errors import BadInputError

XML_START = re.compile(r"^\s*<PhoronixTestSuite\b", re.MULTILINE)


class _Entry(NamedTuple):
    """What one system gave in one test: its runs, or else the one value."""

    title: str
    version: str
    scale: str
    proportion: object
    system: str
    runs: Iterable[Any]


def from_json(document: Any, name: PurePath, given: Given) -> Reading:
    """Read phoronix-test-suite result-file-to-json."""
    return _reading(_of_json(document), name, given)


def _of_json(document: Mapping[str, Any]) -> Iterator[_Entry]:
    for result in document["results"].values():
        title = " ".join(str(result.get(key) or "") for key in ("title", "arguments", "description")).strip()
        version, scale = str(result.get("app_version") or ""), str(result.get("scale", ""))
        for system, entry in result.get("results", {}).items():
            runs = entry.get("all_results") or entry.get("raw_values") or [entry.get("value")]
            yield _Entry(title, version, scale, result.get("proportion"), str(system), runs)


def from_xml(text: str, name: PurePath, given: Given) -> Reading:
    """Read composite.xml of the Phoronix Test Suite: the runs (RawString) if present, else the value."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInputError("XML with declarations of its own is not read")
    start = text.index("<PhoronixTestSuite")  # there may be notes before it, and after it
    end = text.rfind("</PhoronixTestSuite>")
    whole = text[start:] if end < start else text[start:end] + "</PhoronixTestSuite>"
    try:
        root = ET.fromstring(whole)  # noqa: S314 - entities are refused above
    except ET.ParseError as error:
        raise BadInputError(f"damaged XML: {error}") from error
    return _reading(_of_xml(root), name, given)


def _of_xml(root: ET.Element) -> Iterator[_Entry]:
    for result in root.iter("Result"):
        title = " ".join(filter(None, (result.findtext(key) or "" for key in ("Title", "Arguments", "Description"))))
        version, scale = result.findtext("AppVersion") or "", (result.findtext("Scale") or "").strip()
        for entry in result.iter("Entry"):
            runs = [run for run in (entry.findtext("RawString") or "").split(":") if run.strip()]
            runs = runs or [entry.findtext("Value") or ""]
            yield _Entry(title, version, scale, result.findtext("Proportion"), entry.findtext("Identifier") or "", runs)


def _reading(entries: Iterable[_Entry], name: PurePath, given: Given) -> Reading:
    """The samples of all entries; one that failed, or does not say what is better, is left out with the reason."""
    values, left_out = [], []
    for entry in entries:
        facts = {"test version": entry.version} if entry.version else {}
        try:
            unit = _proportioned(entry.scale, entry.proportion)
            values.append(Value(entry.title, unit, numbers(entry.runs), entry.system, facts))
        except BadInputError as error:
            left_out.append(f"{entry.title} ({entry.system}): {error.message}")
    return samples_of(values, name, given, left_out)


def _proportioned(unit: str, proportion: object) -> Metric:
    """The metric of a Phoronix result: HIB or LIB (higher, lower is better), else by its unit.

    Raises BadInputError where neither says it, or where they contradict each other.
    """
    word = str(proportion or "").strip().upper()
    known = {"HIB": Direction.HIGHER, "LIB": Direction.LOWER}.get(word) or direction_of(unit)
    if known is None:
        raise BadInputError(f"a result in {unit!r} that does not say whether more or less is better")
    try:
        return sensible(Metric("result", unit, known))
    except ValueError as error:
        raise BadInputError(str(error)) from error


def is_json(document: Any) -> bool:
    """Whether a JSON document is of result-file-to-json."""
    results = document.get("results") if isinstance(document, dict) else None
    return isinstance(results, Mapping) and all(isinstance(r, Mapping) and "results" in r for r in results.values())
