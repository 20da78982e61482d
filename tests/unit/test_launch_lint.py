"""The linter of launches: QEMU's command lines, libvirt's domains, and QEMU's own errors."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import BadInputError, SevkitError, UsageError
from sevkit.hypervisor.lint import answer, command_line, errors, rules
from sevkit.vocabulary import Mode

HOST = rules.Host(51)
SNP = (
    "qemu-system-x86_64 -enable-kvm -cpu EPYC-v4 -machine q35,confidential-guest-support=sev0,memory-backend=ram0 "
    "-smp 4 -m 2G -object memory-backend-memfd,id=ram0,size=2G,share=on -bios OVMF.amdsev.fd "
    "-object sev-snp-guest,id=sev0,policy=0x30000,cbitpos=51,reduced-phys-bits=1 "
    "-device virtio-net-pci,disable-legacy=on,iommu_platform=on"
)
SEV = SNP.replace("sev-snp-guest,id=sev0,policy=0x30000", "sev-guest,id=sev0,policy=0x7,session-file=s,dh-cert-file=d")
PLAIN = SNP.replace(",confidential-guest-support=sev0", "").replace(
    "-object sev-snp-guest,id=sev0,policy=0x30000,cbitpos=51,reduced-phys-bits=1", ""
)


def found(text: str, host: rules.Host = HOST) -> set[tuple[str, str]]:
    return {(row["rule"], row["kind"]) for row in answer.lint([("x.sh", text)], [], "", host)["findings"]}


@pytest.mark.parametrize("text", [SNP, SEV, PLAIN])
def test_sound_launches(text: str) -> None:
    assert found(text) == set()


@pytest.mark.parametrize(
    ("text", "mode"),
    [(SNP, Mode.SEV_SNP), (SEV, Mode.SEV_ES), (SEV.replace("0x7", "0x3"), Mode.SEV), (PLAIN, Mode.NOSEV)],
)
def test_the_mode(text: str, mode: Mode) -> None:
    assert answer.read(text, "x")[0].mode is mode


@pytest.mark.parametrize(
    ("base", "old", "new", "rule", "kind"),
    [
        (SNP, ",confidential-guest-support=sev0", "", "not-protected", "weakens"),
        (SNP, "support=sev0", "support=other", "no-such-object", "fails"),
        (SNP, "0x30000", "0x10000", "policy", "fails"),
        (SNP, "0x30000", "0xb0000", "policy", "weakens"),
        (SEV, "0x7", "0x6", "policy", "weakens"),
        (SEV, "0x7", "0x47", "policy", "fails"),
        (SEV, "0x7", "0x3", "registers", "weakens"),
        (SNP, "-bios OVMF.amdsev.fd", "-drive if=pflash,format=raw,file=OVMF.fd", "pflash", "fails"),
        (SEV, "-bios OVMF.amdsev.fd", "-drive if=pflash,format=raw,file=/x/OVMF_CODE_4M.fd", "pflash", "fails"),
        (SEV, "-bios OVMF.amdsev.fd", "-drive if=pflash,format=raw,file=$OVMF_CODE", "pflash", "note"),
        (SEV.replace("q35,", "q35,pflash0=f,"), "-bios OVMF.amdsev.fd", "", "pflash", "note"),
        (SNP, "-bios OVMF.amdsev.fd", "", "no-firmware", "fails"),
        (SNP, "cbitpos=51", "cbitpos=47", "c-bit", "fails"),
        (SNP, ",cbitpos=51", "", "c-bit", "fails"),
        (SNP, "reduced-phys-bits=1", "reduced-phys-bits=0", "phys-bits", "fails"),
        (SNP, ",reduced-phys-bits=1", "", "phys-bits", "fails"),
        (SNP, "-enable-kvm", "-accel tcg", "accel", "fails"),
        (SNP, "iommu_platform=on", "iommu_platform=off", "iommu-platform", "fails"),
        (SNP, "disable-legacy=on", "disable-legacy=off", "iommu-platform", "fails"),
        (SNP, ",disable-legacy=on,iommu_platform=on", "", "iommu-platform", "note"),
        (SNP, "q35,", "q35,smm=on,", "smm", "fails"),
        (SEV, "q35,", "q35,smm=on,", "smm", "fails"),
        (SNP, "-cpu EPYC-v4", "-cpu host", "cpu-model", "note"),
        (SNP, "-cpu EPYC-v4", "", "cpu-model", "fails"),
        (SNP, "-bios", "-kernel bzImage -bios", "kernel-hashes", "weakens"),
        (SEV, ",session-file=s,dh-cert-file=d", "", "no-session", "note"),
        (SNP, "-m 2G", "-m 2G,slots=2,maxmem=4G", "hotplug", "note"),
        (SNP, "-smp", "-device virtio-balloon-pci,iommu_platform=on -smp", "balloon", "note"),
        (SNP, "-smp", "$EXTRA -smp", "unknown", "note"),
    ],
)
def test_each_mistake_is_found(base: str, old: str, new: str, rule: str, kind: str) -> None:
    assert old in base
    assert (rule, kind) in found(base.replace(old, new))
    assert rule in rules.RULES


@pytest.mark.parametrize(
    "firmware",
    [
        "-drive if=pflash,format=raw,file=OVMF.fd",
        "-drive if=pflash,unit=0,file=OVMF_CODE.fd -drive if=pflash,unit=1,file=OVMF_VARS.fd",
        "-machine pflash0=a,pflash1=b",
    ],
)
def test_flash_memory_with_a_variable_store_suits_sev_es(firmware: str) -> None:
    launch = SEV.replace("-bios OVMF.amdsev.fd", firmware)
    assert found(launch) == set()
    code_alone = launch.replace("-drive if=pflash,unit=1,file=OVMF_VARS.fd", "").replace(",pflash1=b", "")
    assert ("pflash" in {rule for rule, _ in found(code_alone)}) == (code_alone != launch)
    plain_sev = code_alone.replace("0x7", "0x3")
    assert "pflash" not in {rule for rule, _ in found(plain_sev)}  # no #VC there


def test_what_is_not_known_is_not_judged() -> None:
    text = (
        SNP.replace("cbitpos=51", "cbitpos=$CBIT")
        .replace("0x30000", "${POLICY}")
        .replace("-bios OVMF.amdsev.fd", "$FW")
    )
    assert {row for row in found(text) if row[1] != "note"} == set()
    assert ("c-bit", "note") in found(SNP.replace("cbitpos=51", "cbitpos=5"), rules.Host())


def test_scripts_logs_and_json_options() -> None:
    script = "#!/bin/bash\n# qemu-system-x86_64 -m 1\nexec ${QEMU} \\\n" + SNP.partition(" ")[2].replace(
        " -", " \\\n  -"
    )
    assert answer.read(script, "x")[0].mode is Mode.SEV_SNP
    libvirt = (
        "LC_ALL=C /usr/bin/qemu-system-x86_64 -name guest=a -machine pc-q35-9.1,confidential-guest-support=lsec0 -accel kvm "
        """-object '{"qom-type":"sev-snp-guest","id":"lsec0","policy":196608,"cbitpos":51,"reduced-phys-bits":1}' """
        """-cpu EPYC-v4 -bios x -device '{"driver":"virtio-blk-pci","iommu_platform":false}'"""
    )
    assert found(libvirt) == {("iommu-platform", "fails")}


DOMAIN = """<domain type='kvm'><memory unit='GiB'>2</memory><vcpu>4</vcpu><cpu mode='custom'><model>EPYC-v4</model></cpu>
<os><type machine='pc-q35-9.1'>hvm</type><loader type='{}' stateless='yes'>/OVMF.amdsev.fd</loader></os>
<launchSecurity type='{}'><cbitpos>51</cbitpos><reducedPhysBits>1</reducedPhysBits><policy>{}</policy></launchSecurity>
<devices><disk><target dev='vda' bus='virtio'/><driver name='qemu' iommu='{}'/></disk><memballoon model='none'/></devices></domain>"""


def test_domains_of_libvirt() -> None:
    assert found(DOMAIN.format("rom", "sev-snp", "0x30000", "on")) == set()
    assert ("pflash", "fails") in found(DOMAIN.format("pflash", "sev-snp", "0x30000", "on"))
    assert ("policy", "weakens") in found(DOMAIN.format("pflash", "sev", "0x6", "on"))
    assert ("iommu-platform", "fails") in found(DOMAIN.format("rom", "sev-snp", "0x30000", "off"))
    es = DOMAIN.format("pflash", "sev", "0x7", "on")
    assert answer.read(es, "x")[0].mode is Mode.SEV_ES
    assert "pflash" not in {rule for rule, _ in found(es)}
    code = es.replace("/OVMF.amdsev.fd", "/OVMF_CODE.fd")
    assert ("pflash", "fails") in found(code)
    assert "pflash" not in {rule for rule, _ in found(code.replace("</loader>", "</loader><nvram>/v.fd</nvram>"))}
    left_out = DOMAIN.format("rom", "sev-snp", "0x30000", "on").replace("<cbitpos>51</cbitpos>", "")
    assert found(left_out) == set()  # libvirt asks QEMU for it


@pytest.mark.parametrize("text", ["", "hello", "<domain", "<a/>", "<!DOCTYPE x><domain/>", "qemu-system-x86_64\n"])
def test_no_launch_is_an_error(text: str) -> None:
    with pytest.raises(BadInputError):
        answer.read(text, "x")


def test_pairs_must_be_alike() -> None:
    def pair(other: str) -> list[str]:
        data = answer.lint([("a", SNP), ("b", other)], [], "", HOST)
        return [row["message"].partition(":")[0] for row in data["findings"] if row["kind"] == "unfair"]

    assert pair(PLAIN) == []
    assert pair(PLAIN.replace("EPYC-v4", "host")) == ["CPU model"]
    assert pair(PLAIN.replace("-m 2G", "-m 4G")) == ["memory"]
    assert pair(PLAIN.replace(",disable-legacy=on,iommu_platform=on", "")) == ["virtio transport"]
    assert pair(PLAIN.replace("memfd,id=ram0,size=2G,share=on", "file,id=ram0,mem-path=/dev/hugepages")) == [
        "memory backends"
    ]


def test_a_running_process(tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-x86_64"
    os.symlink("/bin/sh", program)
    argv = [str(program), "-c", "echo ready; read line", *SNP.split()[1:]]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the program runs, and has its own command line
        launch = command_line.of_process(process.pid)
        process.communicate()
    assert launch.mode is Mode.SEV_SNP
    with pytest.raises(UsageError, match="no QEMU"):
        command_line.of_process(os.getpid())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "sev_launch_start: LAUNCH_START ret=1 fw_error=24 'Part-specific integrity check failure'",
            "SECURE_DATA_INVALID",
        ),
        (
            "qemu-system-x86_64: sev_launch_start: LAUNCH_START ret=-5 fw_error=0x7 'Policy is not allowed'",
            "POLICY_FAILURE",
        ),
        ("qemu: sev_kvm_init: failed to create encryption context", "the line before says why"),
        ("kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=1", "flash memory"),
        ("SEV: Failed to open /dev/sev 'No such file or directory'", "not loaded"),
        ("qemu-system-x86_64: SEV is not enabled in KVM", "kvm_amd runs without SEV"),
        ("kernel specified but guest firmware has no hashes table GUID", "no table"),
        ("sev_snp_launch_start: SNP_LAUNCH_START ret=-25 fw_error=0 ''", "ENOTTY"),
        ("-accel kvm: sev_kvm_init: failed to initialize ret=-16 fw_error=0 ''", "no ASID"),
        ("SEV: Failed to export PDH cert ret=-1 fw_err=3 (Platform configuration is invalid)", "INVALID_CONFIG"),
        ("sev_guest_init: failed to get platform status ret=-1fw_error='0: '", "does not answer"),
        ("guest policy requires SEV-ES, but host SEV-ES support unavailable", "asks for SEV-ES"),
        (
            "-object sev-snp-guest,id=a,reduced-phys-bits=1: Parameter 'qom-type' does not accept value 'sev-snp-guest'",
            "no such object",
        ),
        ("sev_kvm_init: reduced_phys_bits check failed, it should be >=1, requested '0'", "out of range"),
        ("SEV-SNP: CPUID validation failed for function 0x7, index: 0x0.", "CPUID page"),
    ],
)
def test_errors_are_explained(line: str, words: str) -> None:
    (cause,) = errors.explain(f"something\n{line}\n")
    assert cause.line == 2
    assert words in cause.means
    assert cause.fix


IGVM = (
    SNP.replace("-bios OVMF.amdsev.fd", "").replace("ram0 -smp", "ram0,igvm-cfg=i -smp")
    + " -object igvm-cfg,id=i,file=a"
)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (SEV.replace("policy=0x7", "policy=$POLICY"), "unknown"),  # SEV or SEV-ES
        (SNP.replace("-object sev-snp-guest,id=sev0,policy=0x30000,cbitpos=51,reduced-phys-bits=1", "-object $OBJECT"), "unknown"),
        (SNP.replace("iommu_platform=on", "iommu_platform=$IOMMU").replace("cbitpos=51", "cbitpos={{ c_bit }}"), "sev-snp"),
        (PLAIN.replace("q35,", "q35,confidential-guest-support=t,") + " -object tdx-guest,id=t", "unknown"),
        (IGVM, "sev-snp"),
        (SNP.replace("-bios", "$EXTRA -bios"), "sev-snp"),
    ],
)  # fmt: skip
def test_a_variable_is_not_judged_but_named(text: str, mode: str) -> None:
    data = answer.lint([("x", text)], [], "", HOST)
    assert {row["kind"] for row in data["findings"]} == {"note"}
    assert {row["rule"] for row in data["findings"]} == {"unknown"}
    assert [row["mode"] for row in data["launches"]] == [mode]


def test_a_guest_of_another_kind_is_no_plain_one() -> None:
    tdx = PLAIN.replace("q35,", "q35,confidential-guest-support=t,") + " -object tdx-guest,id=t -smp 8"
    assert not [
        row for row in answer.lint([("a", SNP), ("b", tdx)], [], "", HOST)["findings"] if row["kind"] == "unfair"
    ]


OTHER_FORMS = {
    "bash array": 'args=(\n  {}\n)\nqemu-system-x86_64 "${{args[@]}}"\n',
    "Kata Containers": 'level=info msg="launching /usr/bin/qemu-system-x86_64 with: [{}]"',
    "a template": "run:\n  sudo {{{{QEMU_SNP}}}} \\\n {}\n",
    "ps": "root 1274 198 2.1 543 211 ? Sl 09:12 1:02 qemu-system-x86_64 {}",
    "systemd": "[Service]\nExecStart=/usr/bin/qemu-system-x86_64 {}\n",
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_command_lines_in_other_forms(form: str) -> None:
    text = OTHER_FORMS[form].format(SNP.partition(" ")[2])
    assert [launch.mode for launch in answer.read(text, "x")] == [Mode.SEV_SNP]
    assert found(text) == set()
    assert ("policy", "fails") in found(text.replace("0x30000", "0x10000"))


def test_json_configuration_files_and_libvirts_own_arguments() -> None:
    assert found(json.dumps(SNP.split())) == set()
    config = """[machine]
type = "q35"
confidential-guest-support = "sev0"
[object "sev0"]
qom-type = "sev-guest"
cbitpos = "51"
reduced-phys-bits = "0"
policy = "0x7"
session-file = "s"
"""
    assert answer.read(config, "x")[0].mode is Mode.SEV_ES
    assert {row for row in found(config) if row[1] != "note"} == {("phys-bits", "fails")}
    arguments = SNP.split()[1:]
    domain = "".join(f"<qemu:arg value='{word}'/>" for word in arguments)
    text = f"<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:commandline>{domain}</qemu:commandline></domain>"
    assert answer.read(text, "x")[0].mode is Mode.SEV_SNP


def test_the_better_policy_passes() -> None:
    rows = answer.lint([("x", SEV.replace("0x7", "0xc"))], [], "", HOST)["findings"]
    assert {row["fix"] for row in rows if row["rule"] == "policy"} == {"policy=0xf"}
    assert found(SEV.replace("0x7", "0xf")) == set()


def test_other_lines_are_not_explained() -> None:
    assert errors.explain("char device redirected to /dev/pts/0 (label charserial0)\nwarning: nothing\n") == []


def test_the_codes_are_those_of_the_model() -> None:
    from sevkit.model.psp import Status

    both = errors.FIRMWARE_CODES.keys() & {int(each) for each in Status}
    assert len(both) > 20
    for code in both:
        assert Status(code).name.replace("_", "") == errors.FIRMWARE_CODES[code][0].replace("_", ""), hex(code)


@given(
    st.text(max_size=300)
    | st.builds(lambda words: "qemu-kvm " + " ".join(words), st.lists(st.sampled_from(SNP.split())))
)
def test_any_text_is_a_launch_or_an_error(text: str) -> None:
    try:
        answer.lint([("x", text)], [], text, HOST)
    except SevkitError:
        return


def test_every_rule_has_its_line_in_the_documentation() -> None:
    text = (Path(__file__).parent.parent.parent / "docs/guests.md").read_text()
    for rule, about in rules.RULES.items():
        assert f"| `{rule}` | {about} |" in text
