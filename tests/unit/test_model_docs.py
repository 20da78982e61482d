"""The example in docs/model.md does what its comments say."""

import contextlib
import io
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "model.md"


def test_the_example_does_what_it_says() -> None:
    match = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert match is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(match[1], "docs/model.md", "exec"), {})  # the project's own documentation
    promised = re.findall(r"print\(fault\)  # (.*)", match[1])
    assert len(promised) == 2
    for words, line in zip(promised, printed.getvalue().splitlines(), strict=True):
        assert line.startswith(words)
