"""`sevkit probe` as a JUnit report: one suite per category, one case per check."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from sevkit.render import origin

_KINDS = {"fail": "failure", "unknown": "error", "skip": "skipped"}
# XML 1.0 cannot represent these characters, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(data: Mapping[str, Any]) -> str:
    """The report: fail is a failure, unknown an error, skip is skipped; a failed advice is skipped too."""
    root = ET.Element("testsuites", name="sevkit probe")
    rows = data["checks"]
    for category in dict.fromkeys(row["category"] for row in rows):
        mine = [row for row in rows if row["category"] == category]
        suite = _suite(root, f"sevkit.probe.{category}")
        _origin(suite, data["source"])
        _count(suite, [_case(suite, row) for row in mine])
    return _whole(root)


def fleet(data: Mapping[str, Any], advice: Collection[str] = ()) -> str:
    """Several hosts: one suite per host, whose first case is that it answered; a host that did not is an error.

    ``advice`` names the checks that are only advice.
    """
    root = ET.Element("testsuites", name="sevkit probe")
    for row in data["hosts"]:
        suite = _suite(root, f"sevkit.probe.{row['host']}")
        kinds = [_answered(suite, row)]
        kinds += [_status(suite, name, status, name in advice) for name, status in (row["checks"] or {}).items()]
        _count(suite, kinds)
    return _whole(root)


def _origin(suite: ET.Element, source: Mapping[str, Any]) -> None:
    """Say what the facts are of, as properties of a suite."""
    properties = ET.SubElement(suite, "properties")
    for name, value in origin.labels(source).items():
        ET.SubElement(properties, "property", name=f"source.{name}", value=_NOT_XML.sub("\ufffd", value))


def _suite(root: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(root, "testsuite", name=_NOT_XML.sub("\ufffd", name))


def _count(suite: ET.Element, kinds: Sequence[str]) -> None:
    suite.set("tests", str(len(kinds)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(kinds.count(kind)))


def _whole(root: ET.Element) -> str:
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _answered(suite: ET.Element, row: Mapping[str, Any]) -> str:
    """Whether a host answered, as a case."""
    case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name="answered", time="0")
    if row["status"] == "ok":
        return ""
    words = _NOT_XML.sub("\ufffd", row["error"] or "no answer")
    ET.SubElement(case, "error", message=words, type="unreachable")
    return "error"


def _status(suite: ET.Element, name: str, status: str, advice: bool) -> str:
    """A check of which only the status is known, as a case."""
    case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=name, time="0")
    if kind := _kind(status, advice):
        child = ET.SubElement(case, kind, message=status)
        if kind != "skipped":
            child.set("type", status)
    return kind


def _kind(status: str, advice: bool) -> str:
    """What a status is in JUnit's words; empty for a success. Advice does not fail a build."""
    kind = _KINDS.get(status, "")
    return "skipped" if kind and advice else kind


def _case(suite: ET.Element, row: Mapping[str, Any]) -> str:
    case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=row["id"], time="0")
    kind = _kind(row["status"], row["weight"] == "advice")
    text = _NOT_XML.sub("\ufffd", f"{row['description']}\nreads: {row['reads']}\nhint: {row['hint']}")
    if kind:
        child = ET.SubElement(case, kind, message=_NOT_XML.sub("\ufffd", row["message"]))
        child.text = text
        if kind != "skipped":
            child.set("type", row["status"])
    else:
        ET.SubElement(case, "system-out").text = _NOT_XML.sub("\ufffd", row["message"])
    return kind
