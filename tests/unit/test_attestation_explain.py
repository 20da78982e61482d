"""Mistakes made by another program, with one or two options changed, and the change that is found."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from sevsnpmeasure import guest as reference
from sevsnpmeasure import vcpu_types
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vmm_types import VMMType

from sevkit.attestation.measure import cpus
from sevkit.attestation.measure.alternatives import Material
from sevkit.attestation.measure.explain import Answer, Limits, explain
from sevkit.attestation.measure.trace import trace
from sevkit.errors import UsageError
from sevkit.model.digest import Kernel, LaunchInputs
from sevkit.vocabulary import Mode
from tests.support.es_digest import DEBUG_SWAP, es_digest
from tests.unit.test_model_digest import SECTIONS, firmware_image

LINE = "console=ttyS0 root=/dev/vda1 ro"
GIVEN: dict[str, Any] = {
    "vcpus": 4, "type": "EPYC-v4", "features": 1, "vmm": VMMType.QEMU, "firmware": "ovmf",
    "kernel": "kernel", "initrd": "initrd", "append": LINE,
}  # fmt: skip

# (what is changed, the input that the answer has to name)
SINGLE: list[tuple[dict[str, Any], str]] = [
    *(({"vcpus": count}, "vcpus") for count in (1, 2, 3, 5, 8, 16, 64, 255)),
    *(({"type": name}, "vcpu-type") for name in ("EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin")),
    *(({"features": value}, "guest-features") for value in (0, 0x21, 9, 0x201, 0x41, 0x11, 0x31)),
    *(({"vmm": vmm}, "vmm") for vmm in (VMMType.ec2, VMMType.gce)),
    ({"firmware": "other"}, "ovmf"),
    ({"kernel": "kernel2"}, "kernel"),
    ({"kernel": "", "initrd": "", "append": ""}, "kernel"),
    ({"initrd": ""}, "initrd"),
    ({"initrd": "initrd2"}, "initrd"),
    *(
        ({"append": line}, "append")
        for line in (
            f"{LINE} ", f" {LINE}", f"{LINE}\n", f'"{LINE}"', f"{LINE} initrd=initrd", "", LINE.removesuffix(" ro"),
            LINE.replace("console=ttyS0 ", ""), f"{LINE} quiet", f"{LINE}\t",
        )
    ),
]  # fmt: skip
DOUBLE = [
    ({**first, **second}, {one, two})
    for (first, one), (second, two) in itertools.combinations(SINGLE, 2)
    if one != two and not first.keys() & second.keys()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    for name, data in {
        "ovmf": firmware_image(b"one", SECTIONS), "other": firmware_image(b"two", SECTIONS),
        "kernel": b"kernel", "kernel2": b"kernel two", "initrd": b"initrd", "initrd2": b"initrd two",
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    return folder


def measured(folder: Path, mode: SevMode = SevMode.SEV_SNP, **changed: Any) -> bytes:
    """What the other program says."""
    use = {**GIVEN, **changed}
    files = {name: str(folder / use[name]) if use[name] else "" for name in ("firmware", "kernel", "initrd")}
    digest: bytes = reference.calc_launch_digest(
        mode, use["vcpus"], vcpu_types.CPU_SIGS[use["type"]], files["firmware"], files["kernel"], files["initrd"],
        use["append"], use["features"], vmm_type=use["vmm"],
    )  # fmt: skip
    return digest


def inputs(folder: Path, mode: Mode = Mode.SEV_SNP) -> LaunchInputs:
    kernel = Kernel((folder / "kernel").read_bytes(), (folder / "initrd").read_bytes(), LINE)
    return LaunchInputs(mode, (folder / "ovmf").read_bytes(), 4, cpus.signature_of("EPYC-v4"), 1, kernel)


def material(folder: Path) -> Material:
    return Material(
        {"other": (folder / "other").read_bytes()},
        {"kernel2": (folder / "kernel2").read_bytes()},
        {"initrd2": (folder / "initrd2").read_bytes()},
    )


def named(answer: Answer) -> set[str]:
    assert answer.found is not None, answer.ruled_out
    return {change.input for change in answer.found}


@pytest.mark.parametrize(("changed", "name"), SINGLE, ids=lambda value: str(value)[:40])
def test_a_single_mistake_is_found(folder: Path, changed: dict[str, Any], name: str) -> None:
    answer = explain(inputs(folder), measured(folder, **changed), material=material(folder))
    assert named(answer) == {name}, answer.found
    assert not answer.others


@pytest.mark.parametrize("number", range(0, len(DOUBLE), len(DOUBLE) // 14))
def test_a_double_mistake_is_found(folder: Path, number: int) -> None:
    changed, names = DOUBLE[number]
    if "kernel" in names and changed["kernel"] == "" and names & {"append", "initrd"}:
        names = {"kernel"}
    if "vmm" in names:
        names = names - {"vcpu-type"}  # save areas of EC2 and GCE do not hold the CPU's signature
    limits = Limits(vcpus=max(20, changed.get("vcpus", 0)))
    answer = explain(inputs(folder), measured(folder, **changed), material=material(folder), limits=limits)
    assert named(answer) == names, (changed, answer.found)


def test_debug_swap_of_sev_es_is_found(folder: Path) -> None:
    files = (str(folder / "kernel"), str(folder / "initrd"), LINE)
    expected = es_digest(4, cpus.signature_of("EPYC-v4"), str(folder / "ovmf"), files, DEBUG_SWAP)
    assert named(explain(inputs(folder, Mode.SEV_ES), expected)) == {"guest-features"}
    ruled_out = explain(inputs(folder, Mode.SEV_ES), bytes(32), limits=Limits(changes=2, vcpus=4)).ruled_out[1]
    assert "guest-features of 16 bits" not in ruled_out  # that many are tried of SEV-SNP alone


@pytest.mark.parametrize(
    ("mode", "theirs", "changed", "names"),
    [
        (Mode.SEV_ES, SevMode.SEV_ES, {"vcpus": 9}, {"vcpus"}),
        (Mode.SEV_ES, SevMode.SEV_ES, {"type": "EPYC-Rome", "append": f"{LINE} "}, {"vcpu-type", "append"}),
        (Mode.SEV_ES, SevMode.SEV, {}, {"mode"}),
        (Mode.SEV, SevMode.SEV, {"initrd": ""}, {"initrd"}),
        (Mode.SEV, SevMode.SEV, {"firmware": "other", "append": ""}, {"ovmf", "append"}),
        (Mode.SEV_ES, SevMode.SEV_ES, {"vmm": VMMType.ec2}, {"vmm"}),
    ],
)
def test_mistakes_in_the_other_modes(
    folder: Path, mode: Mode, theirs: SevMode, changed: dict[str, Any], names: set[str]
) -> None:
    answer = explain(inputs(folder, mode), measured(folder, theirs, **changed), material=material(folder))
    assert named(answer) == names, answer.found


def test_any_sixteen_bits_of_features_are_found(folder: Path) -> None:
    limits = Limits(changes=2, vcpus=4)
    answer = explain(inputs(folder), measured(folder, features=0xBEEF), limits=limits)
    assert answer.found is not None
    assert [change.actual for change in answer.found] == ["0xbeef"]


def test_an_equal_digest_needs_no_explanation(folder: Path) -> None:
    answer = explain(inputs(folder), measured(folder))
    assert answer.found == []
    assert answer.as_dict()["equal"]


def test_a_digest_on_the_way_tells_where_measuring_ended(folder: Path) -> None:
    lines = list(trace(inputs(folder)))
    answer = explain(inputs(folder), bytes.fromhex(lines[15].digest))
    assert "firmware" in answer.note
    assert answer.found


def test_what_nothing_explains_is_ruled_out_aloud(folder: Path) -> None:
    said: list[str] = []
    answer = explain(inputs(folder), bytes(48), limits=Limits(changes=2), progress=lambda done, text: said.append(text))
    assert answer.found is None
    assert answer.complete
    assert answer.tried > 10_000
    assert len(answer.ruled_out) == 2
    assert "vcpus (1 to 512)" in answer.ruled_out[0]
    assert len(said) > 3


def test_a_search_that_was_cut_short_says_so(folder: Path) -> None:
    answer = explain(inputs(folder), bytes(48), limits=Limits(candidates=1000))
    assert answer.found is None
    assert not answer.complete


@pytest.mark.parametrize(
    ("theirs", "changed", "names"),
    [
        (SevMode.SEV, {}, {"mode"}),
        (SevMode.SEV_ES, {}, {"mode"}),
        (SevMode.SEV_ES, {"vcpus": 2}, {"mode", "vcpus"}),
        (SevMode.SEV_ES, {"append": "", "type": "EPYC-Milan"}, {"mode", "append", "vcpu-type"}),
    ],
)
def test_a_digest_of_another_size_is_of_another_mode(
    folder: Path, theirs: SevMode, changed: dict[str, Any], names: set[str]
) -> None:
    answer = explain(inputs(folder), measured(folder, theirs, **changed), limits=Limits(vcpus=8))
    assert named(answer) == names, answer.found
    assert answer.found is not None
    assert answer.found[0].given == "sev-snp"
    back = explain(inputs(folder, Mode.SEV_ES), measured(folder), limits=Limits(vcpus=8))
    assert [(change.input, change.actual) for change in back.found or ()] == [("mode", "sev-snp")]


def test_what_no_mode_has_is_refused_or_ruled_out(folder: Path) -> None:
    answer = explain(inputs(folder), bytes(32), limits=Limits(changes=2, vcpus=4))
    assert (answer.found, answer.complete) == (None, True)
    assert "a digest of sev or sev-es" in answer.note
    assert len(answer.ruled_out) == 2
    for size in (0, 20, 49):
        with pytest.raises(UsageError, match="48 bytes"):
            explain(inputs(folder), bytes(size))
