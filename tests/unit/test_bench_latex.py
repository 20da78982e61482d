"""The LaTeX table compiles, whatever the names of workloads are. Needs pdflatex with booktabs (texlive-latex-recommended)."""

import json
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.published import samples
from sevkit.render import bench_tables

ODD = r"100 % of_a#b & c$ {x} \dots ~ ^ <é> µ 漢 \end{tabular}"
PAGE = r"\documentclass{article}\usepackage{booktabs}\begin{document}\tiny %s\end{document}"


@pytest.mark.skipif(not processes.have_tool("pdflatex"), reason="needs pdflatex")
def test_the_table_compiles(tmp_path: Path) -> None:
    rows = json.loads(json.dumps([c.as_dict() for c in compare(samples())]))
    rows[0]["workload"] = rows[1]["storage"] = ODD
    rows[2]["workload"], rows[3]["workload"] = "漢", "*"
    rows[0]["conditions"] = {"vcpus": "1_0"}
    (tmp_path / "page.tex").write_text(PAGE % bench_tables.latex(rows), encoding="utf-8")
    done = processes.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], timeout=60, cwd=tmp_path
    )
    assert done.status == 0, done.text[-1000:]
    assert (tmp_path / "page.pdf").stat().st_size > 1000


def test_characters_that_latex_does_not_know_have_their_number() -> None:
    cells = bench_tables.clean.tex("漢 µ é")
    assert cells == r"[U+6F22] \textmu{} é"
