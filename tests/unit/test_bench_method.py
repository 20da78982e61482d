"""What stands beside the numbers: how they were measured and where they come from, in every form that may be shown alone."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sevkit.bench import results, store
from sevkit.bench.analysis.compare import arms_of
from sevkit.bench.analysis.comparison import Rules, Ruling
from sevkit.bench.imports import files, write
from sevkit.bench.records import Discarded, Failure, SlotEnd
from sevkit.bench.report import figures, of_directory
from sevkit.render import bench_html, bench_svg, bench_tables
from tests.support.bench_campaign import FACTS, campaign, rewritten


def told(path: Path) -> str:
    return "\n".join(of_directory(path, Rules()).method)


def test_a_campaign_says_how_it_was_measured(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 4)
    campaign(path, 6, first=4)
    text = told(path)
    for words in (
        "boots nosev, nosev#again, sev once",
        "balanced against drift, not random",
        "No warm-up was recorded",
        "at most 4 rounds",
        "changed after 4 rounds",
        "Ended after 6 rounds: all boots are done",
        "Boots discarded before they measured: none. Boots that did not come up: none. Runs that failed: none.",
    ):
        assert words in text
    assert "TCG" not in text


def test_boots_under_tcg_and_what_is_in_no_figure_are_told(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 3, of=lambda arm, boot: {**FACTS, "accel": "tcg"})
    more = [
        Discarded("c0.b0.sev", 0, "hpet").record(),
        Discarded("c0.b1.sev", 0, "hpet").record(),
        SlotEnd("c0.b1.nosev", False, 1.0).record(),
        Failure("c0.b2.nosev", "sha256", "x").record(),
    ]
    rewritten(path, lambda records: [*records[:-1], *more, records[-1]])
    assert "9 of 9 boots ran under TCG" in told(path)
    assert "measured: 2 of sev. Boots that did not come up: 1 of nosev. Runs that failed: 1 of nosev." in told(path)
    assert "balanced against drift" in bench_html.render(of_directory(path, Rules()))


def test_imported_files_do_not_say_how_they_were_measured(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a-sev.csv").write_text("timestamp,completion_time_ms\n1,5\n")
    given = files.Given()
    write.imported(tmp_path / "r", files.read_folder(folder, given), folder=folder, given=given)
    assert told(tmp_path / "r").startswith("Taken from 1 files of other programs. In what order")


def test_tables_and_figures_that_stand_alone_say_their_provenance(tmp_path: Path) -> None:
    report = of_directory(campaign(tmp_path / "r", 3), Rules())
    rows = [c.as_dict() for c in report.comparisons]
    assert bench_tables.markdown(rows).endswith("\n\nprovenance: emulated\n")
    assert r"\multicolumn{10}{l}{provenance: emulated} \\" in bench_tables.latex(rows)
    drawings = bench_svg.files(report)
    assert len(drawings) > 3
    for _, svg in drawings:
        assert "provenance: emulated</text></svg>" in svg


@pytest.mark.parametrize("values", [(-5.0, -6.0), (-5.0, 1.0), (1e308, 1.79e308), (0.0, 0.0), (5e-324, 5e-324)])
def test_whatever_the_values_there_is_a_figure(tmp_path: Path, values: tuple[float, ...]) -> None:
    samples = results.read(campaign(tmp_path / "r", 3)).samples[: len(values)]
    changed = [replace(sample, value=value) for sample, value in zip(samples, values, strict=True)]
    for figure in figures(arms_of(changed)):
        svg = bench_svg.chart(figure)
        assert "nan" not in svg
        assert not math.isnan(max(bar.value for group in figure.groups for bar in group.bars))


def test_what_was_measured_as_published_gets_no_verdict_however_many_are_joined(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 6)
    header = dict(store.read_header(path)) | {"as_published": True}
    records = (path / store.RECORDS).read_bytes()
    (path / store.HEADER).unlink()
    (path / store.RECORDS).unlink()
    store.Store.create(path, header).close()
    (path / store.RECORDS).write_bytes(records)
    rewritten(path, lambda records: None)
    found = of_directory(path, Rules()).effects
    assert {c.outcome for c in found} == {Ruling.REFUSED}
    assert all("known mistakes" in c.reason for c in found)
