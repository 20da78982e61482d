"""The table of bulletins: its entries, what they conclude, and that the catalogue of attacks and it know each other."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from sevkit.attacks import discover
from sevkit.attacks.mitigations import MEASURES
from sevkit.attestation.payload import BulletinTable
from sevkit.attestation.report.parse import parse
from sevkit.attestation.tcb import judge, known, table
from sevkit.attestation.tcb.known import Known
from sevkit.errors import BadInputError, ExitCode
from sevkit.render import openvex, sarif
from sevkit.vocabulary import Mode

DATA = Path(__file__).parent.parent / "data" / "reports"
IDS = re.compile(r"CVE-\d{4}-\d{4,}|AMD-SB-\d{4}")


def of(name: str) -> Known:
    return known.of_report(parse((DATA / name).read_bytes()))


def answers(about: Known, mode: Mode = Mode.SEV_SNP) -> dict[str, judge.Judgement]:
    return {item.bulletin.id: item for item in judge.judge_all(about, mode)}


def entry(identity: str) -> table.Bulletin:
    return next(item for item in table.bulletins() if identity in item.ids)


def test_every_entry_says_whom_what_and_where() -> None:
    assert len(table.bulletins()) >= 30
    for item in table.bulletins():
        assert item.sources, item.id
        assert item.what.endswith("."), item.id
        assert item.fixed_when, item.id
        for cve in item.cves:
            assert IDS.fullmatch(cve), cve


def test_attacks_and_bulletins_refer_to_each_other() -> None:
    attacks = discover()
    for item in table.bulletins():
        for name in item.attacks:
            text = " ".join([attacks[name].summary, *map(str, attacks[name].sources)])
            assert any(identity in text for identity in item.ids), f"{name} names none of {item.ids}"
    for attack in attacks.values():
        text = " ".join([attack.summary, *map(str, attack.sources)])
        for identity in IDS.findall(text):
            item = entry(identity)
            assert attack.name in item.attacks, f"{item.id} does not name {attack.name}"


def test_mitigations_name_bulletins_of_the_table() -> None:
    for measure in MEASURES.values():
        for identity in measure.bulletins:
            assert entry(identity)


@pytest.mark.parametrize(
    ("identity", "about", "applies"),
    [
        ("CVE-2025-0033", of("genoa-v3.bin"), "yes"),  # SPL 0x17
        ("CVE-2025-0033", of("siena-v5.bin"), "no"),  # SPL 0x1B
        ("CVE-2025-0033", of("turin-v5.bin"), "no"),  # SPL 4
        ("CVE-2025-0033", replace(of("turin-v5.bin"), tcb={"snp": 3}), "yes"),
        ("CVE-2025-0033", of("milan-v3.bin"), "unknown"),  # MIT_VECTOR came with version 5
        ("CVE-2025-0033", of("milan-v5.bin"), "no"),  # bit 1
        ("CVE-2024-56161", of("milan-v3.bin"), "no"),  # SPL 0x18
        ("CVE-2024-36347", of("turin-v5.bin"), "unknown"),
        ("AMD-SB-7033", of("genoa-v3.bin"), "no"),
        ("CVE-2024-21944", of("genoa-v3.bin"), "no"),
        ("CVE-2024-21944", replace(of("genoa-v3.bin"), platform={"alias_check_complete": False}), "yes"),
        ("CVE-2024-21944", replace(of("genoa-v3.bin"), platform={}), "unknown"),
        ("CVE-2025-29943", of("turin-v5.bin"), "no"),  # microcode 0x51
        ("CVE-2025-29943", of("siena-v5.bin"), "unknown"),  # no level is known for this model
        ("CVE-2025-29943", replace(of("genoa-v3.bin"), policy={"smt": False}), "no"),
        ("CVE-2025-29943", replace(of("genoa-v3.bin"), stepping=None), "unknown"),
        ("CVE-2025-29943", of("genoa-v3.bin"), "unknown"),  # stepping 1 is below, stepping 2 has another level
        ("CVE-2025-48514", of("milan-v5.bin"), "no"),
        ("CVE-2025-48514", replace(of("milan-v5.bin"), current_tcb={"snp": 0x1A}), "yes"),
        ("AMD-SB-3021", of("turin-v5.bin"), "yes"),
        ("AMD-SB-3021", replace(of("turin-v5.bin"), policy={"page_swap_disable": True}), "no"),
        ("TEE.fail", of("milan-v3.bin"), "no"),
        ("TEE.fail", of("turin-v5.bin"), "yes"),
        ("SEVerity", of("milan-v3.bin"), "no"),
        ("CVE-2025-0033", Known(), "unknown"),
        ("CVE-2025-0033", Known(line="Venice"), "unknown"),
    ],
)
def test_what_applies(identity: str, about: Known, applies: str) -> None:
    found = judge.judge(entry(identity), about)
    assert found.applies == applies, found.why
    assert found.why


def test_the_contradictions_of_the_sources_stay_open() -> None:
    """What sources say differently of is never a yes or a no."""
    milan = of("milan-v5.bin")
    assert answers(milan)["AMD-SB-3045"].applies == "unknown"  # a fix that one source has and another denies
    assert "disagree" in answers(milan)["AMD-SB-3045"].why
    assert answers(milan)["AMD-SB-3034"].applies == "unknown"  # whether Milan is affected
    assert answers(of("genoa-v3.bin"))["AMD-SB-3005"].applies == "unknown"
    assert "MIT_VECTOR" in entry("AMD-SB-3023").note  # a bit that the bulletin names and its authors correct
    assert not any(c.mit_bit is not None for cs in entry("AMD-SB-3023").fixed_when.values() for c in cs)
    disputed = table.Condition(tcb="snp", minimum=(0x17, 0x1B))
    two = replace(entry("AMD-SB-3019"), fixed_when={"Genoa": (disputed,)})
    for level, applies in ((0x16, "yes"), (0x17, "unknown"), (0x1A, "unknown"), (0x1B, "no")):
        found = judge.judge(two, Known(line="Genoa", tcb={"snp": level}))
        assert found.applies == applies
        assert ("disagree" in found.why) is (applies == "unknown")


def test_a_guest_launched_before_the_mitigation_is_not_covered() -> None:
    about = replace(of("milan-v5.bin"), launch_vector=0, current_vector=0xF)
    assert answers(about)["AMD-SB-3020"].applies == "yes"


def test_hosts_and_reports_together() -> None:
    status = {
        "alias_check_complete": True, "ciphertext_hiding_enabled": False, "rapl_disabled": False,
        "reported_tcb": 0x541700000000000A, "current_tcb": 0x541700000000000A,
    }  # fmt: skip
    host = known.of_host(0x19, 0x11, 1, {"sev.snp_platform_status": status, "cpu.smt": "off"})
    assert host.line == "Genoa"
    assert host.tcb == {"bootloader": 10, "tee": 0, "snp": 0x17, "microcode": 0x54}
    assert answers(host)["AMD-SB-3027"].applies == "no"  # SMT is off
    assert answers(host)["AMD-SB-3020"].applies == "yes"
    assert answers(host)["AMD-SB-3021"].applies == "unknown"  # a host says nothing of a guest's policy
    both = known.merged(of("siena-v5.bin"), host)
    assert answers(both)["AMD-SB-3020"].applies == "no"  # the report's TCB counts
    assert known.of_host(None, None, None, {}).line is None
    old = known.of_host(0x17, 0x31, 0, {})
    assert old.line == "Rome"
    assert answers(old, Mode.SEV)["SEVerity"].applies == "yes"
    assert answers(old, Mode.SEV)["AMD-SB-3020"].applies == "no"


@pytest.mark.parametrize("line", table.WITHOUT_SNP)
@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_what_is_about_snp_alone_does_not_apply_to_processors_without_it(line: str, mode: Mode) -> None:
    found = judge.judge_all(Known(line=line, tcb=None, current_tcb=None, origin="test"), mode)
    about_snp = [item for item in found if set(item.bulletin.modes) == {Mode.SEV_SNP}]
    assert about_snp
    assert {item.applies for item in about_snp} == {"no"}
    assert {item.applies for item in found} > {"no"}


def test_exit_codes_for_ci() -> None:
    found = judge.judge_all(of("milan-v5.bin"))
    assert judge.exit_code(found) == ExitCode.NO
    yes = frozenset(item.bulletin.id for item in found if item.applies == "yes")
    assert judge.exit_code(found, yes) == ExitCode.INCONCLUSIVE
    rest = frozenset(item.bulletin.id for item in found if item.applies != "no")
    assert judge.exit_code(found, rest) == ExitCode.DONE
    physical = [item for item in found if item.bulletin.severity == "physical"]
    assert judge.exit_code(physical) == ExitCode.DONE
    assert judge.exit_code(physical, physical=True) == ExitCode.NO


def shown() -> BulletinTable:
    found = judge.judge_all(of("genoa-v3.bin"))
    return {
        "source": "report", "product": "Genoa", "tcb": {"snp": 23}, "mode": "sev-snp", "verified": False,
        "ignored": ["PwrLeak"], "bulletins": [item.as_dict() for item in found],
    }  # fmt: skip


def test_sarif_has_a_rule_per_bulletin_and_a_result_per_finding() -> None:
    document = sarif.document(shown())
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == [item.id for item in table.bulletins()]
    expected = [item["id"] for item in shown()["bulletins"] if item["applies"] != "no"]
    assert [result["ruleId"] for result in run["results"]] == expected
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    assert [r["ruleId"] for r in run["results"] if "suppressions" in r] == ["PwrLeak"]
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("verified", [False, None])
def test_documents_say_that_a_report_was_not_verified(verified: bool | None) -> None:
    """ "fixed" by a report that anybody can write is no statement; without a report there is nothing to verify."""
    import datetime as dt

    data: BulletinTable = {**shown(), "verified": verified}
    (run,) = sarif.document(data)["runs"]
    assert ("not verified" in json.dumps(run)) is (verified is False)
    statements = openvex.document(data, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))["statements"]
    assert {"not verified" in item["status_notes"] for item in statements} == {verified is False}
    assert {"mode=sev-snp" in item["products"][0]["@id"] for item in statements} == {True}


OPENVEX = {
    "type": "object",
    "required": ["@context", "@id", "author", "timestamp", "version", "statements"],
    "properties": {
        "statements": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["vulnerability", "products", "status"],
                "properties": {
                    "status": {"enum": ["not_affected", "affected", "fixed", "under_investigation"]},
                    "vulnerability": {"type": "object", "required": ["name"]},
                },
                "allOf": [
                    {
                        "if": {"properties": {"status": {"const": "affected"}}},
                        "then": {"required": ["action_statement"]},
                    },
                    {
                        "if": {"properties": {"status": {"const": "not_affected"}}},
                        "then": {"required": ["justification"]},
                    },
                ],
            },
        }
    },
}


def test_openvex_statements_are_complete() -> None:
    import datetime as dt

    document = openvex.document(shown(), dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    jsonschema.validate(document, OPENVEX)
    names = [item["vulnerability"]["name"] for item in document["statements"]]
    assert len(names) == len(set(names))
    assert {item["status"] for item in document["statements"]} == {
        "affected", "fixed", "not_affected", "under_investigation",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "[[bulletin]]\nid = 'x'",
        "[[bulletin]]\nid='x'\nname='x'\nwhat='x.'\nseverity='bad'\nhow_sure='secondary'\nsources=[]\nfixed_when={}",
        "[[bulletin]]\nid='x'\nname='x'\nwhat='x.'\nseverity='low'\nhow_sure='secondary'\nsources=[]\nfixed_when={Milan=[{tcb='spl',min=1}]}",
        "[[bulletin]]\nid='x'\nname='x'\nwhat='x.'\nseverity='low'\nhow_sure='secondary'\nsources=[]\nfixed_when={Milan=[{platform='x'}]}",
        "[[bulletin]]\nid='x'\nname='x'\nwhat='x.'\nseverity='low'\nhow_sure='secondary'\nsources=[]\nfixed_when={Mars=[]}",
        "=",
    ],
)
def test_a_table_with_a_mistake_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        table.read(text)
