"""Readers of dumps: both styles, several CPUs, missing leaves, and files that are none."""

import pytest

from sevkit.errors import BadInputError
from sevkit.probe.dumps import read_dump
from sevkit.probe.leaf import LEAF, Registers
from sevkit.probe.report import report
from sevkit.probe.sources import facts_from

RAW = """CPU 0:
   0x00000000 0x00: eax=0x0000000d ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x0000000d 0x01: eax=0x0000000f ebx=0x00000340 ecx=0x00000000 edx=0x00000000
   0x80000000 0x00: eax=0x80000020 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x8000001f 0x00: eax=0x0001000f ebx=0x0000016f ecx=0x000001fd edx=0x00000001
CPU 1:
   0x00000000 0x00: eax=0x0000000d ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x8000001f 0x00: eax=0x0000000f ebx=0x0000016f ecx=0x000001fd edx=0x00000001
"""
INST = """------[ Versions ]------

Program Version : AIDA64 v6.25
CPUID Manufacturer     : AuthenticAMD

------[ Logical CPU #0 ]------

allcpu: Package 0 / Core 0 / Thread 0: Valid

CPUID 00000000: 0000000D-68747541-444D4163-69746E65 [AuthenticAMD]
CPUID 00000001: 00830F10-00800800-7ED8320B-178BFBFF
CPUID 00000007: 00000000-219C91A9-00400004-00000000 [SL 00]
CPUID 0000000D: 0000000F-00000340-00000000-00000000 [SL 01]
CPUID 80000000: 80000020-68747541-444D4163-69746E65 [AuthenticAMD]
CPUID 8000001F: 0001000F-0000016F-000001FD-00000001

MSR 0000001B: 0000-0000-FEE0-0800

------[ Logical CPU #1 ]------

CPUID 8000001F: 0000000F-0000016F-000001FD-00000001
"""
ROME = Registers(0x0001000F, 0x0000016F, 0x000001FD, 0x00000001)


@pytest.mark.parametrize(("text", "style"), [(RAW, "cpuid-r"), (INST, "instlatx64")])
def test_both_styles(text: str, style: str) -> None:
    dump = read_dump(text.encode())
    assert dump.style == style
    assert [cpu.cpu for cpu in dump.cpus] == [0, 1]
    assert dump.cpus[0].leaves[LEAF, 0] == ROME
    assert dump.cpus[1].leaves[LEAF, 0] == ROME._replace(eax=0xF)
    assert dump.cpus[0].leaves[0xD, 1].ebx == 0x340


@pytest.mark.parametrize("text", [RAW, INST])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "crlf"])
def test_line_ends_and_encodings(text: str, encoding: str) -> None:
    data = text.replace("\n", "\r\n").encode() if encoding == "crlf" else text.encode(encoding)
    assert read_dump(data) == read_dump(text.encode())


def test_differences_between_cpus_are_reported() -> None:
    found = report(facts_from(RAW.encode(), "x"))["leaf"]["differences"]
    assert found == [{"field": "vte", "values": [{"value": True, "cpus": [0]}, {"value": False, "cpus": [1]}]}]


def test_the_output_of_one_leaf_alone() -> None:
    data = report(
        facts_from(b"CPU:\n   0x8000001f 0x00: eax=0x0001000f ebx=0x0000016f ecx=0x000001fd edx=0x00000001\n", "x")
    )
    assert data["leaf"]["status"] == "present"
    assert data["leaf"]["fields"]["c_bit_position"] == 47
    assert data["cpu"]["vendor"] is None
    verdicts = {mode: x["verdict"] for mode, x in data["readiness"].items()}
    assert verdicts == {"sme": "unknown", "sev": "unknown", "sev-es": "not_ready", "sev-snp": "not_ready"}


def test_a_dump_without_the_leaf() -> None:
    lines = [line for line in RAW.splitlines() if "8000001f" not in line]
    data = report(facts_from("\n".join(lines).encode(), "x"))
    assert data["leaf"]["status"] is None
    assert data["leaf"]["fields"] is None
    assert "does not hold" in data["leaf"]["reason"]
    assert data["readiness"]["sev"]["verdict"] == "unknown"


def test_a_dump_of_intel_with_numbers_in_the_leaf() -> None:
    text = RAW.replace("68747541", "756e6547").replace("444d4163", "6c65746e").replace("69746e65", "49656e69")
    data = report(facts_from(text.encode(), "x"))
    assert data["leaf"]["status"] == "not_amd"
    assert data["leaf"]["fields"] is None
    assert data["readiness"]["sev"]["verdict"] == "not_ready"


def test_a_leaf_beyond_the_maximum() -> None:
    data = report(facts_from(RAW.replace("eax=0x80000020", "eax=0x8000001e").encode(), "x"))
    assert data["leaf"]["status"] == "beyond_max_leaf"
    assert data["leaf"]["raw"] is None


BAD = {
    "empty": (b"", "empty"),
    "blank": (b"\n\n \n", "empty"),
    "binary": (b"\x7fELF\x02\x01\x01\x00\x00\x00", "line 1"),
    "random": (bytes(range(1, 256)) * 3, "line 1"),
    "prose": (b"hello\nworld\n", "line 1"),
    "cut in a number": (RAW.encode()[:-5], "line 8"),
    "cut in a line": (RAW.encode()[:200], "line 4"),
    "short number": (RAW.replace("edx=0x00000001", "edx=0x1", 1).encode(), "line 5"),
    "no hex": (RAW.replace("0x0001000f", "0x0001000g").encode(), "line 5"),
    "two machines": (INST.replace("#1", "#1 ]\n\nCPUID 00000001: 00A00F11-00800800-7ED8320B-178BFBFF\n[").encode(), "models"),
    "decoded in part": (b"CPU:\n   AMD Secure Encryption (0x8000001f):\n      SME: secure memory encryption support    = true\n", "does not say: SEV: "),
    "cpu twice": (RAW.replace("CPU 1:", "CPU 0:").encode(), "line 6"),
    "leaf twice": ((RAW + RAW.splitlines()[4] + "\n").encode(), "line 9"),
    "header alone": (b"CPU 0:\n", "no leaf"),
    "long line": (b"CPU 0:\n" + b"x" * 10000, "line 2"),
    "broken AIDA64 line": (INST.replace("0001000F-", "0001000F ").encode(), "line 15"),
    "AIDA64 cut": (INST.encode()[: INST.index("-000001FD")], "line 15"),
    "AIDA64 leaf twice": (INST.replace("CPUID 00000007", "CPUID 8000001F").encode(), "line 15"),
    "NUL inside": (RAW.replace("CPU 1", "CPU\0 1").encode(), "line 6"),
    "a kernel log": (b"[    0.000000] Linux version 6.1.0\n", "kernel log"),
    "a result": (b'{"sevkit_result_version": 1}', "not a saved host"),
    "broken JSON": (b'{\n"sevkit_facts_version": 1,\n', "line 3"),
    "deep JSON": (b"[" * 200000, "line 1"),
    "huge number": (b'{"sevkit_facts_version": ' + b"9" * 10000 + b"}", "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_an_error_with_the_line(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(BadInputError, match=words) as caught:
        facts_from(data, "the file")
    assert caught.value.message.startswith("the file")
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_a_file_too_large() -> None:
    with pytest.raises(BadInputError, match="larger than"):
        read_dump(b"CPU 0:\n" * (5 << 20))


A = Registers(0x10, 0x68747541, 0x444D4163, 0x69746E65)
FORMS = {
    "cpuid-r": ["CPU 0:", "   0x{:08x} 0x00: eax=0x{:08x} ebx=0x{:08x} ecx=0x{:08x} edx=0x{:08x}"],
    "instlatx64": ["------[ Logical CPU #0 ]------", "CPUID {:08X}: {:08X}-{:08X}-{:08X}-{:08X} [L2: 512 KB] / L3: 262144 KB]"],
    "instlatx64 without colon": ["CPUID Registers (CPU #0 Virtual):", "CPUID {:08X}  \t{:08X}-{:08X}-{:08X}-{:08X} [SL 00]"],
    "instlatx64, late colon": ["CPU#000 AffMask: 0x0000000000000001", "CPUID {:08X} :{:08X}-{:08X}-{:08X}-{:08X}"],
    "instlatx64, blanks": ["Group: 0x00 Affinity mask: 0x0000000000000001", "CPUID {:08X}: {:08X} {:08X} {:08X} {:08X}"],
    "instlatx64, CPU 0": ["CPU 0:", "CPUID {:08x}: {:08x}-{:08x}-{:08x}-{:08x}"],
    "kcpuid": ["CPUID leafs:\n\nBasic Leafs :\n========", "0x{:08x}: EAX=0x{:08x}, EBX=0x{:08x}, ECX=0x{:08x}, EDX=0x{:08x}"],
    "cpuid_dump": ["[Pkg: 000, Core: 003, SMT: 001, x2APIC: 000]\n  [Leaf.Sub]    [EAX]", "  0x{:08X} 0x0:  0x{:08X} 0x{:08X} 0x{:08X} 0x{:08X}  [SME] [SEV]"],
    "x86info": ["x86info v1.31pre", "eax in: 0x{:08x}, eax = {:08x} ebx = {:08x} ecx = {:08x} edx = {:08x}"],
    "cpuid_dump, old": ["CPU", " {:08X}h_x0:  eax={:08X}h ebx={:08X}h ecx={:08X}h edx={:08X}h  [AuthenticAMD]"],
    "cpuid_dump, raw": ["CPU", " {:08X}h_x0:  {:08X}h {:08X}h {:08X}h {:08X}h "],
    "cpuid-tycho": ["CPU 0:", "CPUID {:08x}:00 = {:08x} {:08x} {:08x} {:08x} | ....h..[.."],
    "cpu-z": ["CPU Thread 0\n\tAPIC ID\t\t\t0", "\t\t\t\t0x{:08X}\t0x{:08X}\t0x{:08X}\t0x{:08X}\t0x{:08X}"],
    "cpucontrol": ["$ cpucontrol -i 0 /dev/cpuctl0", "cpuid level 0x{:x}: 0x{:08x} 0x{:08x} 0x{:08x} 0x{:08x}"],
    "instlatx64, CPU-Z": ["CPU Thread 0", "\tCPUID\t\t\t0x{:08X}\t0x{:08X}\t0x{:08X}\t0x{:08X}\t0x{:08X}"],
}  # fmt: skip
ROWS = {0: A, 0x80000000: A._replace(eax=0x80000028), LEAF: ROME}


def in_form(name: str) -> list[str]:
    head, row = FORMS[name]
    return [head, *(row.format(leaf, *values) for leaf, values in ROWS.items())]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "dress", ["{}", "> {}", "# {}", "`{}`", "12:{}", "cpuid.txt:12:{}", "\x1b[32m{}\x1b[0m", "| {}"]
)
def test_forms_of_programs_in_any_dress(name: str, dress: str) -> None:
    lines = [dress.format(line) for text in in_form(name) for line in text.split("\n")]
    dump = read_dump("\n".join(["user@host:~$ sudo cpuid -r", *lines, "[...]"]).encode())
    assert dump.cpus == ((0, {(leaf, 0): values for leaf, values in ROWS.items()}),)
    assert dump.style == name.split(",", maxsplit=1)[0].split(" ", maxsplit=1)[0]


def test_libcpuid_raw() -> None:
    text = "version=0.7.0\n" + "".join(
        f"{array}[{number}]={a:08x} {b:08x} {c:08x} {d:08x}\n"
        for array, number, (a, b, c, d) in (("basic_cpuid", 0, A), ("ext_cpuid", 31, ROME), ("amd_fn8000001dh", 2, A))
    )
    assert read_dump(text.encode()).cpus[0].leaves == {(0, 0): A, (LEAF, 0): ROME, (0x8000001D, 2): A}


@pytest.mark.parametrize("name", FORMS)
def test_leaf_0_begins_the_next_cpu(name: str) -> None:
    dump = read_dump("\n\n".join([*in_form(name), *in_form(name)[1:]]).encode())
    assert [cpu.cpu for cpu in dump.cpus] == [0, 1]
    assert dump.cpus[0].leaves == dump.cpus[1].leaves


def test_one_leaf_after_the_other_is_one_cpu() -> None:
    rows = in_form("cpuid-r")[1:]
    text = "\n".join(f"$ cpuid -1 -r\nCPU:\n{row}" for row in rows)
    assert [set(cpu.leaves) for cpu in read_dump(text.encode()).cpus] == [{(leaf, 0) for leaf in ROWS}]


def test_decoded_output() -> None:
    from sevkit.render.cpuid import render

    dump = read_dump(render(ROME).encode())
    assert (dump.style, dump.cpus) == ("cpuid", ((0, {(LEAF, 0): ROME}),))


def test_a_cpu_older_than_extended_leaves() -> None:
    text = "CPUID 00000000: 00000001-68747541-444D4163-69746E65\nCPUID 00000001: 00000500-00000000-00000000-000003BF\n"
    data = report(facts_from(text.encode(), "x"))
    assert data["leaf"]["status"] == "beyond_max_leaf"
    assert data["leaf"]["reason"] == "CPUs of family 0x05 have no leaf 0x8000001F: it came with family 0x17"
    assert data["readiness"]["sev"]["verdict"] == "not_ready"
