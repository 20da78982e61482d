"""`sevkit probe` as a JUnit report: one suite per category, one case per check."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

# XML 1.0 cannot represent these characters, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(data: Mapping[str, Any]) -> str:
    """The report: fail is a failure, unknown an error, skip is skipped; a failed advice is skipped too."""
    root = ET.Element("testsuites", name="sevkit probe")
    rows = data["checks"]
    for category in dict.fromkeys(row["category"] for row in rows):
        mine = [row for row in rows if row["category"] == category]
        suite = ET.SubElement(root, "testsuite", name=f"sevkit.probe.{category}", tests=str(len(mine)))
        kinds = [_case(suite, row) for row in mine]
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(attribute, str(kinds.count(kind)))
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, row: Mapping[str, Any]) -> str:
    case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=row["id"], time="0")
    kind = {"fail": "failure", "unknown": "error", "skip": "skipped"}.get(row["status"], "")
    if kind in ("failure", "error") and row["weight"] == "advice":
        kind = "skipped"
    text = _NOT_XML.sub("\ufffd", f"{row['description']}\nreads: {row['reads']}\nhint: {row['hint']}")
    if kind:
        child = ET.SubElement(case, kind, message=_NOT_XML.sub("\ufffd", row["message"]))
        child.text = text
        if kind != "skipped":
            child.set("type", row["status"])
    else:
        ET.SubElement(case, "system-out").text = _NOT_XML.sub("\ufffd", row["message"])
    return kind
