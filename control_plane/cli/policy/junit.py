"""Results of a policy's tests as JUnit XML, which CI systems show."""

from pathlib import Path
from xml.etree import ElementTree as ET

from control_plane.cli.policy.cases import Results
from control_plane.errors import OperatorError


def write_junit(target: Path, document: Path, results: Results) -> None:
    """One testcase for each test with its line; where the document has problems, one for each of them.

    Raises OperatorError where the file cannot be written.
    """
    errors, failures = len(results.problems), len(results.failures)
    counts = {"tests": str(len(results.cases) + errors), "failures": str(failures), "errors": str(errors)}
    top = ET.Element("testsuites", counts)
    suite = ET.SubElement(top, "testsuite", {"name": _text(str(document)), **counts})
    for problem in results.problems:
        case = _case(suite, document, f"line {problem['line']}", int(problem["line"]))
        ET.SubElement(case, "error", {"message": _text(problem["message"]), "type": problem["code"]})
    for result in results.cases:
        case = _case(suite, document, result.name, result.line)
        if result.failure:
            said = ET.SubElement(case, "failure", {"message": _text(result.failure), "type": "test_failed"})
            said.text = f"{document}:{result.line}: {_text(result.failure)}"
    ET.indent(top)
    try:
        ET.ElementTree(top).write(target, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise OperatorError(f"{target} cannot be written: {error.strerror}") from error


def _case(suite: ET.Element, document: Path, name: str, line: int) -> ET.Element:
    place = {"classname": _text(document.name), "file": _text(str(document)), "line": str(line)}
    return ET.SubElement(suite, "testcase", {"name": _text(name), **place})


def _text(text: str) -> str:
    """What XML can hold: anything that is not printable is shown as an escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
