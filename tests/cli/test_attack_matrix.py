"""``sevkit attack matrix``, ``explain`` and the narrated run."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run, RunJson


def test_matrix_as_data(sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("attack", "matrix")
    assert status == 0
    data = envelope["data"]
    assert data["provenance"] == "mock"
    assert data["as_expected"] is True
    assert data["columns"] == ["nosev", "sev", "sev-es", "sev-snp", "sev-snp + mitigations"]
    assert len(data["cells"]) == 5 * len(data["attacks"])
    for cell in data["cells"]:
        assert {"attack", "mode", "mitigations", "expected", "observed", "check"} <= set(cell)
        assert cell["expected"] == cell["observed"]


def test_matrix_of_some_attacks_for_people(sevkit: Run, tmp_path: Path) -> None:
    page = tmp_path / "matrix.html"
    status, out, _ = sevkit("attack", "matrix", "replay", "badram", "--html", str(page))
    assert status == 0
    assert "All 10 experiments are as expected." in out
    assert "rmp-host-" in out
    assert page.read_text().startswith("<!doctype html>")
    status, out, _ = sevkit("attack", "matrix", "badram", "--markdown")
    assert status == 0
    assert "CVE-2024-21944" in out


def test_a_cell_in_which_nothing_ran_is_not_counted_as_expected(sevkit: Run, tmp_path: Path) -> None:
    """double-validate applies to SEV-SNP alone: two columns of five."""
    said = "All 7 experiments are as expected. In 3 cells nothing was performed: the attack does not apply."
    page = tmp_path / "m.html"
    out = sevkit("attack", "matrix", "double-validate", "replay", "--html", str(page))[1]
    assert said in " ".join(out.split())
    assert said in page.read_text()
    assert said in sevkit("attack", "matrix", "double-validate", "replay", "--markdown")[1]
    run = ("attack", "run", "double-validate", "--level", "model", "--modes", "sev", "--report", str(page))
    assert "Nothing was performed: the attack does not apply" in sevkit(*run)[1]
    html = page.read_text()
    assert "Nothing was performed: the attack does not apply." in html
    assert "banner good" not in html


def test_a_narrow_terminal_gets_a_list_with_whole_words(
    sevkit: Run, sevkit_json: RunJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = sevkit("attack", "matrix")
    assert max(map(len, out.splitlines())) <= 60
    words = set(out.replace("(", " ").replace(")", " ").split())
    for cell in sevkit_json("attack", "matrix")[1]["data"]["cells"]:
        assert cell["attack"] in words
        assert cell["observed"] == "n/a" or cell["check"] in words


def test_same_seed_same_bytes(sevkit: Run) -> None:
    one, other = (sevkit("attack", "explain", "corruption", "--seed", "9")[1] for _ in range(2))
    assert one == other
    assert one != sevkit("attack", "explain", "corruption", "--seed", "10")[1]


def test_explain_tells_the_story(sevkit: Run, sevkit_json: RunJson) -> None:
    status, out, _ = sevkit("attack", "explain", "replay", "--mode", "sev")
    assert status == 0
    order = [
        out.index(word)
        for word in ("\nsetup", "\nprediction", "what the host does", "what the guest sees", "\nverdict")
    ]
    assert order == sorted(order)
    assert "The attack works" in out
    status, envelope = sevkit_json("attack", "explain", "badram", "--mode", "sev-snp", "--mitigations", "alias-check")
    assert status == 0
    assert (envelope["data"]["observed"], envelope["data"]["check"]) == ("stopped", "alias-check")
    assert envelope["data"]["steps"]


def test_narrated_run(sevkit: Run) -> None:
    status, out, _ = sevkit("attack", "run", "replay", "--level", "model", "--modes", "sev,sev-snp", "--step")
    assert status == 0
    assert out.index("Replay of old memory: sev [model] ===") < out.index("Replay of old memory: sev-snp [model] ===")
    assert "The attack works" in out
    assert "The attack is stopped: rmp-host-write-assigned" in out


def test_run_in_the_model_as_data(sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("attack", "run", "replay", "--level", "model", "--modes", "sev,sev-snp")
    assert status == 0
    data = envelope["data"]
    assert (data["attack"], data["provenance"], data["as_predicted"]) == ("replay", "mock", True)
    assert [e["observed"] for e in data["experiments"]] == ["works", "stopped"]


def test_wrong_names_are_usage_errors(sevkit_json: RunJson) -> None:
    for argv in (
        ["attack", "matrix", "nothing"],
        ["attack", "explain", "nothing"],
        ["attack", "run", "nothing"],
        ["attack", "explain", "replay", "--mitigations", "prayer"],
        ["attack", "explain", "replay", "--mode", "tdx"],
    ):
        status, envelope = sevkit_json(*argv)
        assert status == 2, argv
        assert envelope["errors"][0]["message"]


def test_the_column_of_an_unpatched_platform(sevkit: Run, sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("attack", "matrix", "replay", "tcb-rollback", "--vulnerable", "rmpocalypse")
    assert status == 0
    data = envelope["data"]
    assert data["columns"][-1] == "sev-snp + AMD-SB-3020"
    seen = {cell["attack"]: cell for cell in data["cells"] if cell["column"] == data["columns"][-1]}
    assert {name: cell["observed"] for name, cell in seen.items()} == {"replay": "works", "tcb-rollback": "stopped"}
    assert "RMPocalypse" in seen["replay"]["cites"]
    status, out, _ = sevkit("attack", "matrix", "replay", "--vulnerable", "AMD-SB-3020", "--markdown")
    assert status == 0
    assert "`replay` (sev-snp + AMD-SB-3020): RMPocalypse" in out
    assert sevkit("attack", "matrix", "--vulnerable", "AMD-SB-0000")[0] == 2
    assert sevkit("attack", "matrix", "--vulnerable", "")[0] == 2
    assert sevkit("attack", "matrix", "--level", "emulator", "--vulnerable", "AMD-SB-3020", "--dry-run")[0] == 2


def test_an_attack_without_a_form_at_the_level_is_no_success(sevkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from sevkit.attacks import matrix
    from sevkit.vocabulary import Level, Mode

    monkeypatch.setattr(matrix, "available", lambda level: dict.fromkeys(Mode) if level is Level.EMULATOR else {})
    assert sevkit("attack", "matrix", "badram", "--level", "emulator", "--dry-run")[0] == 2
    assert sevkit("attack", "matrix", "replay", "badram", "--level", "emulator", "--dry-run")[0] == 2
    assert sevkit("attack", "matrix", "replay", "--level", "emulator", "--dry-run")[0] == 0


@pytest.mark.parametrize("tcb", ["snp=999", "snpp=24", "snp=-1", "snp", "", "snp=24,,"])
def test_levels_that_no_firmware_has_are_refused(sevkit: Run, tcb: str) -> None:
    assert sevkit("attack", "list", "--generation", "milan", "--tcb", tcb)[0] == 2
