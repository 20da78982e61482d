"""Other programs' output as facts, and bundles of it."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sevkit.errors import BadInputError
from sevkit.probe.foreign import said
from sevkit.probe.report import report
from sevkit.probe.sources import facts_from, read_source

CPUINFO = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm npt sme sev sev_es\n"
LSCPU = "Architecture:  x86_64\nVendor ID:   AuthenticAMD\nFlags:       fpu svm npt sme sev sev_es\n"
OK = """[ PASS ] - AMD CPU
[ PASS ]   - Secure Encrypted Virtualization (SEV)
[ PASS ]     - C-bit location: 51
[ PASS ]     - Number of encrypted guests supported simultaneously: 509
[ PASS ]     - Minimum ASID value for SEV-enabled, SEV-ES disabled guest: 100
[ PASS ] - KVM supported: API version: 12
[ PASS ] - SEV enabled in KVM
[ PASS ] - SEV-ES enabled in KVM
\x1b[31m[ FAIL ]\x1b[0m - SEV-SNP enabled in KVM: disabled
"""
DOMCAPS = """<domainCapabilities><features><sev supported='yes'><cbitpos>51</cbitpos></sev>
<launchSecurity supported='yes'><enum name='sectype'><value>sev</value><value>sev-snp</value></enum></launchSecurity>
</features></domainCapabilities>"""
CPUID = "CPU 0:\n   0x8000001f 0x00: eax=0x0001780f ebx=0x00004173 ecx=0x000001fd edx=0x00000064\n"
LOG = "[    5.0] kvm_amd: SEV enabled (ASIDs 100 - 509)\n[    5.0] kvm_amd: SEV-ES enabled (ASIDs 1 - 99)\n"
FLAGS = {"cpuinfo.flags": ["sme", "sev", "sev_es", "svm", "npt"]}


@pytest.mark.parametrize(
    ("name", "text", "readings"),
    [
        ("x", CPUINFO, FLAGS),
        ("x", LSCPU, FLAGS),
        ("x", json.dumps({"lscpu": [{"field": "Flags:", "data": "svm npt sme sev sev_es"}]}), FLAGS),
        ("x", "sev 409\nsev_es 99\n", {"cgroup.misc_capacity": "sev 409\nsev_es 99"}),
        ("x", DOMCAPS, {"qemu.objects": ["sev-guest", "sev-snp-guest"]}),
        ("x", '{"return": {"cbitpos": 51, "reduced-phys-bits": 1}}', {}),
        ("x", '{"QMP": {}}\n{"error": {"class": "GenericError", "desc": "SEV is not enabled in KVM"}}', {"kvm_amd.sev": "N"}),
        ("x", OK, {"kvm_amd.sev": "Y", "kvm_amd.sev_es": "Y", "kvm.api_version": 12}),
        ("sys/module/kvm_amd/parameters/sev_snp", "Y\n", {"kvm_amd.sev_snp": "Y"}),
        ("proc/cmdline", "root=/dev/x secret=y iommu=pt kvm_amd.sev=1\n", {"kernel.cmdline": ["iommu=pt", "kvm_amd.sev=1"]}),
        ("etc/modprobe.d/kvm.conf", "# no\noptions kvm_amd sev=0\n", {"modprobe.kvm_amd": ["options kvm_amd sev=0"]}),
        ("x", f"> {LOG}", {"kernel.log": ["kvm_amd: SEV enabled (ASIDs 100 - 509)", "kvm_amd: SEV-ES enabled (ASIDs 1 - 99)"]}),
        ("x", f"-- Boot a --\n{LOG}-- Boot b --\n[ 0.1] ccp 0000:22:00.1: sev enabled", {"kernel.log": ["ccp 0000:22:00.1: sev enabled"]}),
    ],
)  # fmt: skip
def test_what_a_text_says(name: str, text: str, readings: dict[str, Any]) -> None:
    found = said(name, text)
    assert found is not None
    assert found.readings == readings


VERBOSE = """
=== KVM Config ===
  [ PASS ] AMD CPU
           Checks CPU vendor string
  [ PASS ] SEV enabled in KVM
  [ FAIL ] SEV-SNP enabled in KVM: Error - contents read from /sys/module/kvm_amd/parameters/sev_snp: N
           Recommended: kvm_amd.sev_snp=1
  [ FAIL ] SEV-ES enabled in KVM: Error - /sys/module/kvm_amd/parameters/sev_es does not exist
"""
OK_JSON = {
    "tests": [
        {"name": "AMD CPU", "status": "pass"},
        {"name": "SEV enabled in KVM", "status": "pass"},
        {"name": "Compare TCB values", "status": "pass", "message": {"match": True}},
        {"name": "SEV-SNP enabled in KVM", "status": "fail", "message": "Error - contents read from /sys/module/kvm_amd/parameters/sev_snp: N"},
    ],
    "skipped": [],
}  # fmt: skip
DEVICE = """[ PASS ] - AMD CPU
[ PASS ]   - Reading /dev/sev: /dev/sev readable
[ FAIL ]   - Writing /dev/sev: /dev/sev not writable: Permission denied (os error 13)
[ PASS ] - Memlock resource limit: Soft: 8388608 | Hard: 18446744073709551615
"""
VALIDATE = """  QEMU: Checking for hardware virtualization         : PASS
  QEMU: Checking if device /dev/kvm exists           : PASS
  QEMU: Checking for secure guest support            : {}
  QEMU: Checking for device assignment IOMMU support : PASS
"""


@pytest.mark.parametrize(
    ("text", "what", "readings"),
    [
        (VERBOSE, "snphost ok or sevctl ok", {"kvm_amd.sev": "Y", "kvm_amd.sev_snp": "N"}),
        (json.dumps(OK_JSON, indent=2), "snphost ok or sevctl ok", {"kvm_amd.sev": "Y", "kvm_amd.sev_snp": "N"}),
        (DEVICE, "snphost ok or sevctl ok", {
            "sev.device": {"readable": "yes", "writable": "permission denied"}, "limits.memlock": {"soft": 8388608, "hard": None}}),
        (VALIDATE.format("PASS"), "virt-host-validate", {}),
        (VALIDATE.format("WARN (AMD Secure Encrypted Virtualization appears to be disabled in kernel. Add"), "virt-host-validate", {"kvm_amd.sev": "N"}),
        (VALIDATE.format("WARN (AMD Secure Encrypted Virtualization appears to be disabled in firmware.)"), "virt-host-validate", {"kvm_amd.sev": "Y"}),
        ("Host Security ID: HSI:4\n✔ Encrypted RAM:   Encrypted\n", "fwupd's security report: memory encrypted", {}),
        ("> Host Security ID: HSI:0!\n> ✘ Encrypted RAM:  Not supported: https://x/y\n", "fwupd's security report: memory not supported", {}),
        ('{"SecurityAttributes": [{"AppstreamId" : "org.fwupd.hsi.EncryptedRam", "HsiLevel" : 4, "HsiResult" : "not-encrypted"}]}',
         "fwupd's security report: memory not encrypted", {}),
        (f"Anbieterkennung:  AuthenticAMD\nMarkierungen:   {'fpu svm npt sme sev sev_es'}\n", "lscpu", FLAGS),
        (f"厂商 ID\uff1a  AuthenticAMD\n标记\uff1a   {'fpu svm npt sme sev sev_es'}\n", "lscpu", FLAGS),
        ("> vendor_id : AuthenticAMD\n> flags : fpu svm npt sme sev sev_es\n", "/proc/cpuinfo", FLAGS),
        ('(QEMU) query-sev-capabilities\n{\n "return": {\n "cbitpos": 51,\n "reduced-phys-bits": 1}\n}\n', "query-sev-capabilities", {}),
        ("$ cat misc.capacity\nsev 410\nsev_es 99\n", "misc.capacity", {"cgroup.misc_capacity": "sev 410\nsev_es 99"}),
    ],
)  # fmt: skip
def test_each_form_of_other_programs(text: str, what: str, readings: dict[str, Any]) -> None:
    found = said("x", text)
    assert found is not None
    assert (found.what, found.readings) == (what, readings)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        (
            "[ PASS ] - SEV: ENABLED\n[ PASS ] - SEV-ES: ENABLED\n[ PASS ] - SNP: ENABLED\n",
            ["sev", "sev-es", "sev-snp"],
        ),
        ("[PASS] - SEV: ENABLED\n[PASS] - SEV-ES: ENABLED\n[FAIL] - SNP: DISABLED\n", ["sev", "sev-es"]),
        ("[ FAIL ] - SEV: DISABLED\n[ SKIP ]   - SEV-ES\n[ SKIP ]   - SNP\n", []),
    ],
)
def test_snpguest_says_what_is_active_in_a_guest(text: str, modes: list[str]) -> None:
    state = report(facts_from(text.encode(), "ok.txt"))["guest"]
    assert [mode for mode, active in state["active"].items() if active] == modes
    assert state["in_guest"] is (True if modes else None)  # a host reads zeros too


def test_y_and_1_are_no_contradiction(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar(FILES | {"z/module/kvm_amd/parameters/sev": b"1\n"}))
    assert report(read_source(str(tmp_path / "x.tar")))["source"]["contradictions"] == []


@pytest.mark.parametrize(
    "text", ["", "hello", "sev is fine\n", "[ PASS ] - one line\n", '{"return": {}}', "{", "<sev/>"]
)
def test_what_says_nothing(text: str) -> None:
    assert said("x", text) is None


FILES = {
    "host/proc/cpuinfo": CPUINFO.encode(),
    "host/sos_commands/kernel/dmesg": LOG.encode(),
    "host/sos_commands/kernel/dmesg.gz": gzip.compress(b"nothing"),
    "host/sys/module/kvm_amd/parameters/sev": b"Y\n",
    "host/cpuid.txt": CPUID.encode("utf-16"),
    "host/snphost.txt": OK.encode(),
    "host/var/log/huge.bin": b"\0" * 1000,
}


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind in (("host/link/dmesg", tarfile.SYMTYPE), ("host/dev/dmesg", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/shadow"
            archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.zst", "folder"])
def test_a_bundle_gives_all_that_it_holds(tmp_path: Path, form: str) -> None:
    pack = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}
    path = tmp_path / f"report.{form}"
    if form == "folder":
        for name, data in FILES.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    else:
        path.write_bytes(pack[form](tar(FILES)))
    data = report(read_source(str(path)))
    used = {row["file"]: row["what"] for row in data["source"]["used"]}
    assert used == {
        "host/proc/cpuinfo": "/proc/cpuinfo",
        "host/sos_commands/kernel/dmesg": "kernel log",
        "host/sys/module/kvm_amd/parameters/sev": "kvm_amd.sev",
        "host/cpuid.txt": "CPUID dump",
        "host/snphost.txt": "snphost ok or sevctl ok",
    }
    assert data["source"]["contradictions"] == []
    assert data["leaf"]["fields"]["c_bit_position"] == 51
    checks = {row["id"]: row["status"] for row in data["checks"]}
    assert (checks["kvm.sev"], checks["kernel.sev_flag"], checks["kernel.log_sev"]) == ("pass", "pass", "pass")


def test_contradictions_are_named(tmp_path: Path) -> None:
    other = {
        "a/snphost.txt": OK.replace("location: 51", "location: 47").encode(),
        "z/module/kvm_amd/parameters/sev": b"N\n",
    }
    (tmp_path / "x.tar").write_bytes(tar(FILES | other))
    found = report(read_source(str(tmp_path / "x.tar")))["source"]["contradictions"]
    assert found == [
        "c_bit_position: host/snphost.txt says 51, a/snphost.txt says 47",
        "kvm_amd.sev: host/sys/module/kvm_amd/parameters/sev and z/module/kvm_amd/parameters/sev differ; the first counts",
    ]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
@pytest.mark.parametrize("data", [b"", b"hello", gzip.compress(tar(FILES))[:500], tar({"a/b": b"c"})])
def test_no_bundle_is_an_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInputError):
        read_source(str(tmp_path / name))


def test_one_text_alone() -> None:
    data = report(facts_from(OK.encode(), "ok.txt"))
    assert data["source"]["used"] == [{"file": "ok.txt", "what": "snphost ok or sevctl ok"}]
    assert {row["id"]: row["status"] for row in data["checks"]}["kvm.amd_module"] == "unknown"


def test_hostile_names_and_words_are_cleaned() -> None:
    facts = facts_from(OK.encode(), "a\x1b]0;x\x07.txt")
    assert "\x1b" not in json.dumps(report(facts), ensure_ascii=False)
