"""The example in docs/model.md does what its comments say."""

import ast
import re
from pathlib import Path

import pytest

from sevkit.model.faults import Fault

DOCS = Path(__file__).parents[2] / "docs" / "model.md"


def test_the_example_does_what_it_says() -> None:
    match = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert match is not None
    names: dict[str, object] = {}
    refused = []
    for statement in ast.parse(match[1]).body:
        line = match[1].splitlines()[statement.lineno - 1]
        promised = re.search(r"# Fault: (.*)", line)
        code = compile(ast.Module([statement], []), "docs", "exec")
        if promised is None:
            exec(code, names)  # the project's own documentation
            continue
        with pytest.raises(Fault, match=re.escape(promised[1])) as fault:
            exec(code, names)
        refused.append(fault.value.check)
    assert refused == ["rmp-host-write-assigned", "rmp-gpa"]
