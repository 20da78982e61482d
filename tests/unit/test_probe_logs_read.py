"""Logs as people have them: every form around a line, every sign of a new boot, every message that is known."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import BadInputError, ExitCode
from sevkit.probe.answer import judge_log
from sevkit.probe.klog import judge, message_of, read_log, understand
from sevkit.probe.logtable import SILENT

MESSAGES = [
    line.partition(" | ")[2]
    for line in (Path(__file__).parent / "kernel_messages.txt").read_text().splitlines()
    if not line.startswith("#")
]
HOST = [
    "SEV-SNP: RMP table physical range [0x0000000035500000 - 0x0000000075afffff]",
    "ccp 0000:09:00.5: sev enabled",
    "ccp 0000:09:00.5: SEV API:1.55 build:32",
    "kvm_amd: SEV enabled (ASIDs 100 - 1006)",
    "kvm_amd: SEV-ES enabled (ASIDs 1 - 99)",
    "kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)",
]
USABLE = {"sev": "usable", "sev_es": "usable", "sev_snp": "usable"}
UNKNOWN = dict.fromkeys(USABLE, "unknown")


def judged(text: str | bytes) -> dict[str, Any]:
    return judge(read_log(text.encode() if isinstance(text, str) else text, "x.log"))


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_of_the_kernels_is_known(message: str) -> None:
    own = message.removeprefix("ccp 0000:22:00.1: ").removeprefix("kvm_amd: ")
    assert understand(1, message) or own.startswith(SILENT)


FRAMES = {
    "short-monotonic without host": "[  126.228774] kernel: {}",
    "kernel alone": "kernel: {}",
    "short-full without host": "Thu 2025-02-27 19:33:10 UTC kernel: {}",
    "short without host": "Feb 27 19:33:10 kernel: {}",
    "pdsh": "node1: [    4.000000] {}",
    "serial console": "node1 login: [    4.000000] {}",
    "web page": "<pre>[    4.000000] {}<br/>",
    "JSON list of lines": '["[    4.000000] {}",',
    "short-full": "Thu 2025-02-27 19:33:10 UTC node kernel: {}",
    "short-full, German": "Do 2025-02-27 19:33:10 CET node kernel: {}",
    "short-unix": "1740684793.000000 node kernel: {}",
    "short-iso": "2025-02-27T19:33:10+0100 node kernel: {}",
    "short-precise": "Feb 27 19:33:10.123456 node kernel: {}",
    "with-unit": "Thu 2025-02-27 19:33:10 UTC node kernel[0]: {}",
    "German": "Mär 02 19:33:10 pve kernel: {}",
    "French": "févr. 27 19:33:10 node kernel: {}",
    "Chinese": "2月 27 19:33:10 node kernel: {}",
    "Russian": "фев 27 19:33:10 node kernel: {}",
    "colour": "\x1b[32m[    4.000000] \x1b[0m\x1b[33m{}\x1b[0m",
    "quoted": "> [    4.000000] {}",
    "quoted twice": ">> > [    4.000000] {}",
    "comment": "# [    4.000000] {}",
    "Markdown": "`[    4.000000] {}`",
    "grep -n": "120:[    4.000000] {}",
    "grep -H": "dmesg.txt:[    4.000000] {}",
    "grep -Hn": "/var/log/kern.log.1:12:Feb 27 19:33:10 node kernel: [    4.000000] {}",
    "grep of an ISO log": "12:2025-02-27T19:33:10.123456+01:00 node kernel: {}",
    "talosctl": "172.20.0.2: kern:    info: [2026-04-22T10:41:30.677Z]: {}",
    "dmesg -x": "kern  :info  : [    4.000000] {}",
    "RFC 5424": "<6>1 2025-02-27T19:33:10.003Z node kernel - - - [    4.000000] {}",
    "RFC 5424, data": '1 2025-02-27T19:33:10.003Z node kernel 1 ID47 [a@1 b="c"] {}',
    "busybox": "Feb 27 19:33:10 node kern.info kernel: [    4.000000] {}",
    "containerd": "2025-02-27T19:33:10.123456789Z stderr F [    4.000000] {}",
    "compose": "vm-1  | [    4.000000] {}",
    "indented": "\t    [    4.000000] {}",
    "list": "- [    4.000000] {}",
    "numbered list": "12. [    4.000000] {}",
    "cat -n": "    12\t[    4.000000] {}",
    "table": "| [    4.000000] {} |",
    "diff": "+[    4.000000] {}",
    "caret": "[    4.000000] {}^M",
    "strings": '    "[    4.000000] {}",',
    "ansible": '    "msg": "[    4.000000] {}"',
    "Korean": " 2월 27 19:33:10 node kernel: {}",
    "console server": "2025-02-27 19:33:10 | [    4.000000] {}",
    "log store": '2025-02-27 19:33:10 {{job="x"}} [    4.000000] {}',
    "level in words": "kernel: info: [    4.000000] {}",
    "logcat": "02-27 19:33:10.123     0     0 I {}",
}


@pytest.mark.parametrize("name", FRAMES)
def test_forms_around_a_line(name: str) -> None:
    for message in HOST:
        assert message_of(FRAMES[name].format(message)) == message
    assert judged("\n".join(FRAMES[name].format(message) for message in HOST))["host"] == USABLE


@pytest.mark.parametrize(
    "frame",
    [
        "Mär 02 19:33:10 pve sudo[12]: {}",
        "Thu 2025-02-27 19:33:10 UTC node evil: {}",
        "1740684793.000000 node evil: kernel: {}",
        "<6>1 2025-02-27T19:33:10.003Z node evil - - - {}",
        "172.20.0.2: user:    info: [2026-04-22T10:41:30.677Z]: {}",
        "[    4.0] systemd[1]: kernel: {}",
        "[    4.0] usb 1-1: Product: kernel: {}",
    ],
)
def test_user_space_in_new_forms_is_not_the_kernel(frame: str) -> None:
    assert judged("\n".join(frame.format(message) for message in HOST))["host"] == UNKNOWN


def as_json(style: str) -> str:
    if style == "dmesg -J":
        return json.dumps({"dmesg": [{"pri": 6, "time": n, "msg": m} for n, m in enumerate(HOST)]}, indent=3)
    entries = [{"_TRANSPORT": "kernel", "MESSAGE": m, "_BOOT_ID": "b"} for m in HOST]
    entries[3]["MESSAGE"] = list(HOST[3].encode())  # type: ignore[assignment]
    if style == "json":
        return "\n".join(map(json.dumps, entries))
    if style == "json-pretty":
        return "\n".join(json.dumps(entry, indent=4) for entry in entries)
    if style == "json-seq":
        return "".join(f"\x1e{json.dumps(entry)}\n" for entry in entries)
    indent = "    " if style == "verbose" else ""
    head = "Thu 2025-02-27 19:33:10 UTC [s=1]\n" if style == "verbose" else "__CURSOR=s=1\n"
    end = "" if style == "verbose" else "\n"
    return "".join(f"{head}{indent}_BOOT_ID=b\n{indent}_TRANSPORT=kernel\n{indent}MESSAGE={m}\n{end}" for m in HOST)


STYLES = ("dmesg -J", "json", "json-pretty", "json-seq", "export", "verbose")


@pytest.mark.parametrize("style", STYLES)
def test_forms_with_fields(style: str) -> None:
    found = judged(as_json(style))
    assert found["host"] == USABLE
    assert [item["text"] for item in found["evidence"]] == HOST
    assert judged(as_json(style).replace("kernel", "stdout", 1) if style != "dmesg -J" else as_json(style))["evidence"]


def test_lines_that_container_runtimes_keep() -> None:
    for key in ("log", "msg", "message"):
        text = "\n".join(json.dumps({key: f"[    4.0] {m}\n", "stream": "stdout"}) for m in HOST)
        assert judged(text)["host"] == USABLE
    assert judged('{"msg": "kvm_amd: SEV enabled (ASIDs 1 - 9)", "facility": "user"}')["host"] == UNKNOWN


@pytest.mark.parametrize("style", ["json", "export", "verbose"])
def test_entries_of_user_space_and_of_another_boot(style: str) -> None:
    text = as_json(style)
    user = text.replace('"kernel"', '"syslog"').replace("_TRANSPORT=kernel", "_TRANSPORT=syslog")
    assert judged(user)["host"] == UNKNOWN
    last = text.rfind('"_BOOT_ID": "b"') if style == "json" else text.rfind("_BOOT_ID=b")
    other = text[:last] + text[last:].replace('"b"', '"c"').replace("=b", "=c", 1)
    assert len(judged(other)["evidence"]) == 1


@pytest.mark.parametrize("cut", [20, 75, 150])
def test_damaged_json_names_the_line(cut: int) -> None:
    with pytest.raises(BadInputError, match=r"line \d+: damaged JSON"):
        judged(as_json("json")[:cut])


FAILED = "ccp 0000:09:00.5: SEV: memory encryption not enabled by BIOS"


def test_boots_are_told_apart_by_journalctl() -> None:
    for mark in ("-- Boot 77aa01 --", "-- Reboot --", "> -- Boot 77aa01 --"):
        assert judged("\n".join([FAILED, mark, *HOST]))["host"] == USABLE
        assert judged("\n".join([*HOST, mark, HOST[1]]))["host"] == UNKNOWN


def test_stamps_that_go_back_are_a_new_boot_where_the_date_goes_on() -> None:
    first = f"Feb 27 19:33:13 node kernel: [   18.381888] {FAILED}"
    second = [f"Mar  1 08:00:22 node kernel: [    8.34{n}000] {m}" for n, m in enumerate(HOST)]
    assert judged("\n".join([first, *second]))["host"] == USABLE


def test_stamps_alone_that_go_back_leave_a_doubt() -> None:
    first = f"[   18.381888] {FAILED}"
    second = [f"[    8.34{n}000] {m}" for n, m in enumerate(HOST)]
    found = judged("\n".join([first, *second]))
    assert found["host"] == UNKNOWN
    assert found["notes"] == ["line 2: the stamps go back: a new boot, or several logs in one"]
    assert judged("\n".join([*second, "[    0.1] ccp 0000:09:00.5: sev enabled"]))["host"] == UNKNOWN
    assert judged("\n".join([*second[1:], second[1]]))["host"] == USABLE  # within what clocks of CPUs differ


def test_a_module_loaded_again_has_the_last_word() -> None:
    load = ["kvm_amd: TSC scaling supported", "kvm_amd: Nested Virtualization enabled"]
    off = ["kvm_amd: SEV disabled (ASIDs 100 - 1006)", "kvm_amd: SEV-ES disabled (ASIDs 1 - 99)"]
    assert judged("\n".join([*load, *off, *load, *HOST[3:]]))["host"] == USABLE
    assert judged("\n".join([*load, *HOST[3:], *load, *off]))["host"]["sev"] == "unusable"
    assert judged("\n".join([*load, *HOST[3:], *load]))["host"] == UNKNOWN
    assert judged("\n".join([FAILED, *load, *off, *load, *HOST[3:]]))["host"]["sev"] == "unusable"


@pytest.mark.parametrize(
    ("line", "snp"),
    [
        ("unchecked MSR access error: WRMSR to 0xc0010010 (tried to write 0x0000000003fc0000) at rIP: 0x1", "unusable"),
        ("unchecked MSR access error: WRMSR to 0x10a (tried to write 0x0) at rIP: 0x1", "usable"),
        ("ccp 0000:47:00.1: SEV-SNP support requires firmware version >= 1:51", "unusable"),
        ("PSP driver not init", "unknown"),
        ("AMD-Vi: SEV-SNP: IOMMU is either disabled or configured in passthrough mode.", "unusable"),
        ("SVM disabled (by BIOS) in MSR_VM_CR", "unusable"),
        ("kvm_amd: SEV: DF_FLUSH failed, ret=-5, error=0x1", "usable"),
    ],
)
def test_success_is_weighed_against_the_whole_log(line: str, snp: str) -> None:
    assert judged("\n".join([line, *HOST]))["host"]["sev_snp"] == snp
    assert judged("\n".join([*HOST, line]))["host"]["sev_snp"] == snp


def test_hygon_guests() -> None:
    found = judged("[    0.3] Memory Encryption Features active:\n[    0.3]  HYGON CSV\n[    0.3]  HYGON CSV2\n")
    assert (found["active"], found["role"]) == (["sev", "sev-es"], "guest")


def test_nothing_understood_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("2025 node: something about SEV-SNP\nand nothing\n")
    result = judge_log(str(path))
    assert result.exit_code == ExitCode.INCONCLUSIVE
    assert result.errors[0].message == f"{path}: no line was understood: 3 lines read, 1 with words of SEV"
    assert result.data["kernel_log"]["not_understood"] == {"count": 1, "first": [1]}


DRESSES: dict[str, Callable[[list[str]], bytes]] = {
    "quoted": lambda lines: "\n".join(f"> {line}" for line in lines).encode(),
    "quoted twice": lambda lines: "\n".join(f"> > {line}" for line in lines).encode(),
    "commented": lambda lines: "\n".join(f"# {line}" for line in lines).encode(),
    "numbered": lambda lines: "\n".join(f"{n}:{line}" for n, line in enumerate(lines, 1)).encode(),
    "coloured": lambda lines: "\n".join(f"\x1b[32m{line[:9]}\x1b[0m{line[9:]}\x1b[K" for line in lines).encode(),
    "windows": lambda lines: "\r\n".join(lines).encode("utf-8-sig"),
    "utf-16": lambda lines: "\n".join(lines).encode("utf-16"),
    "gzip": lambda lines: gzip.compress("\n".join(lines).encode()),
    "xz": lambda lines: lzma.compress("\n".join(lines).encode()),
    "zstd": lambda lines: zstandard.compress("\n".join(lines).encode()),
}


@pytest.mark.parametrize("dress", DRESSES)
@given(st.lists(st.sampled_from([*MESSAGES, FAILED, *HOST]), min_size=1, max_size=12))
def test_a_dress_changes_no_verdict(dress: str, messages: list[str]) -> None:
    lines = [f"[{number / 10 + 5:12.6f}] {message}" for number, message in enumerate(messages)]
    plain, dressed = judged("\n".join(lines)), judged(DRESSES[dress](lines))
    assert dressed == plain


ENABLED = "kvm_amd: SEV enabled (ASIDs 100 - 509)"
FAILED = "ccp 0000:22:00.1: SEV: failed to INIT error 0x1, rc -5"


@pytest.mark.parametrize(
    ("first", "second", "sev"),
    [
        ("Nov 1 10:00:00 a kernel", "Nov 1 10:00:01 b kernel", "unknown"),
        ("Nov 1 10:00:00 localhost kernel", "Nov 1 10:00:01 b kernel", "usable"),
        ("Nov 1 10:00:00 b kernel", "Nov 1 10:00:01 b.example.org kernel", "usable"),
        ("node1: [    4.0]", "node2: [    5.0]", "unknown"),
        ("Nov 1 10:00:00 ubuntu kernel: [    4.0]", "Nov 1 10:00:01 b kernel: [    5.0]", "usable"),  # renamed
    ],
)
def test_lines_of_several_hosts_say_nothing_of_one(first: str, second: str, sev: str) -> None:
    found = judged(f"{first}: ccp 0000:22:00.1: sev enabled\n{second}: {ENABLED}\n".replace("]:", "]"))
    assert found["host"]["sev"] == sev
    assert bool(found["notes"]) is (sev == "unknown")
    mixed = f"{first}: ccp 0000:22:00.1: sev enabled\n{second}: {ENABLED}\n{first}: ccp 0000:22:00.1: psp enabled\n"
    assert sev != "unknown" or judged(mixed.replace("]:", "]"))["host"]["sev"] == "unknown"


def test_the_driver_of_the_secure_processor_may_be_loaded_again() -> None:
    loaded = "[    {}.0] ccp 0000:22:00.1: sev enabled\n"
    assert judged(f"{loaded.format(1)}[ 2.0] {FAILED}\n{loaded.format(3)}[ 4.0] {ENABLED}\n")["host"]["sev"] == "usable"
    assert judged(f"{loaded.format(1)}[ 2.0] {FAILED}\n[ 4.0] {ENABLED}\n")["host"]["sev"] == "unusable"
    other = "[    3.0] ccp 0000:44:00.1: sev enabled\n"
    assert judged(f"{loaded.format(1)}[ 2.0] {FAILED}\n{other}[ 4.0] {ENABLED}\n")["host"]["sev"] == "unusable"


def test_two_extracts_of_one_boot_are_known_by_a_line_that_both_hold() -> None:
    grep = "[   21.376380] {}\n[   11.979573] ccp 0000:24:00.1: sev enabled\n"
    assert judged(grep.format(ENABLED))["host"]["sev"] == "unknown"
    found = judged(grep.format(ENABLED) + f"[   21.376380] {ENABLED}\n")
    assert (found["host"]["sev"], found["notes"]) == ("usable", [])
    early = f"[    0.000001] ccp 0000:24:00.1: sev enabled\n[   21.376380] {ENABLED}\n[    0.000001] ccp 0000:24:00.1: sev enabled\n"
    assert judged(early)["host"]["sev"] == "unknown"
