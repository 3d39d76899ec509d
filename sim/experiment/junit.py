"""Verdicts as JUnit XML, for CI: a test case a verdict that decides, and one for the run's validity.

SLO verdicts that do not decide are skipped test cases, so that a test report and the exit code never contradict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from sim.experiment.report.tables import figure

JUNIT_XML = "junit.xml"


def write_junit(summary: Mapping[str, Any], directory: Path) -> None:
    """Write the verdicts of a summary."""
    suites = junit(summary)
    xml.indent(suites)
    text = xml.tostring(suites, encoding="unicode")
    (directory / JUNIT_XML).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n', encoding="utf-8")


def junit(summary: Mapping[str, Any]) -> xml.Element:
    """Return the `testsuites` element of a summary."""
    name = f"windtunnel.{summary['scenario']}.{summary['rung']}"
    suite = xml.Element("testsuite", name=name)
    properties = xml.SubElement(suite, "properties")
    for key, value in (("workload_hash", summary["workload"]["hash"]), ("seed", summary["seed"])):
        xml.SubElement(properties, "property", name=key, value=str(value))
    counts = {"failures": 0, "skipped": 0}
    _validity_case(suite, name, summary["validity"], counts)
    for verdict in summary["verdicts"]:
        _verdict_case(suite, name, verdict, counts)
    suite.set("tests", str(len(summary["verdicts"]) + 1))
    suite.set("errors", "0")
    for key, count in counts.items():
        suite.set(key, str(count))
    suites = xml.Element(
        "testsuites", name="windtunnel", tests=suite.get("tests", ""), failures=suite.get("failures", "")
    )
    suites.append(suite)
    return suites


def _validity_case(suite: xml.Element, name: str, validity: Mapping[str, Any], counts: dict[str, int]) -> None:
    case = xml.SubElement(suite, "testcase", classname=name, name="the run is valid", time="0")
    if not validity["is_valid"]:
        counts["failures"] += 1
        why = " ".join(finding["text"] for finding in validity["findings"] if finding["invalidates"])
        xml.SubElement(case, "failure", message=why, type="invalid").text = why


def _verdict_case(suite: xml.Element, name: str, verdict: Mapping[str, Any], counts: dict[str, int]) -> None:
    case = xml.SubElement(suite, "testcase", classname=name, name=verdict["text"], time="0")
    measured = f"measured {figure(verdict['measure'], verdict['value'])}"
    said = f"{measured} ({verdict['about']})" if verdict["about"] else measured
    if verdict["outcome"] == "invalid" or not verdict["decides"]:
        counts["skipped"] += 1
        xml.SubElement(case, "skipped", message=f"decides nothing; {said}")
    elif verdict["outcome"] == "fail":
        counts["failures"] += 1
        xml.SubElement(case, "failure", message=said, type="verdict").text = f"{verdict['text']}: {said}"
    else:
        xml.SubElement(case, "system-out").text = said
