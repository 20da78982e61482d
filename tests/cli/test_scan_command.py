"""``sevkit scan`` and ``sevkit memory`` as users see them, on cores that the tests write."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sevkit.cli import main
from sevkit.memory.guest_ram.picture import from_dict
from tests.unit.elf import Load, core, nt_file

SECRET = "correct-horse-battery-staple"
RAM = 16 << 20


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A core of something like a VMM: 16 MiB of guest RAM with the secret twice, and a little heap."""
    ram = bytearray(RAM)
    for at in (0x1FFE, 0x500000):
        ram[at : at + len(SECRET)] = SECRET.encode()
    path = tmp_path / "vmm.core"
    loads = [Load(0x7F0000000000, bytes(ram)), Load(0x5000, b"heap " + SECRET.encode() + bytes(4063))]
    path.write_bytes(core(loads, nt_file([(0x7F0000000000, 0x7F0000000000 + RAM, 0, "/memfd:ram")])))
    return path


def test_hits_are_placed_in_guest_ram_or_in_the_vmm(sevkit_json, dump: Path) -> None:
    status, envelope = sevkit_json("scan", "--core", str(dump), "--secret", SECRET)
    assert status == 0
    hits = envelope["data"]["hits"]
    assert [(hit["address"], hit["gpa"]) for hit in hits] == [
        (0x5005, None),
        (0x7F0000001FFE, 0x1FFE),
        (0x7F0000500000, 0x500000),
    ]
    assert hits[1]["region"] == "/memfd:ram"
    assert envelope["data"]["guest_ram"]["origin"] == "guess"
    assert envelope["data"]["coverage"]["complete"]
    assert SECRET not in json.dumps(envelope)


def test_the_secret_is_shown_only_when_asked_for(sevkit, dump: Path) -> None:
    status, out, _ = sevkit("scan", "--core", str(dump), "--secret", SECRET)
    assert status == 0
    assert SECRET not in out
    assert "guest-physical 0x1ffe" in out
    assert "a guess" in out
    _, out, _ = sevkit("scan", "--core", str(dump), "--secret", SECRET, "--show")
    assert f"heap «{SECRET}»" in out


def test_secrets_come_from_a_file_a_line_each(sevkit_json, dump: Path, tmp_path: Path) -> None:
    lines = tmp_path / "secrets"
    lines.write_bytes(b"never-there-at-all\r\n\n" + SECRET.encode() + b"\r\n")
    status, envelope = sevkit_json("scan", "--core", str(dump), "--secrets-file", str(lines))
    assert status == 0
    assert [(p["name"], p["hits"]) for p in envelope["data"]["patterns"]] == [("line 1", 0), ("line 3", 3)]


def test_secrets_come_from_standard_input(sevkit_json, dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SECRET.encode())))
    _, envelope = sevkit_json("scan", "--core", str(dump), "--secrets-file", "-")
    assert len(envelope["data"]["hits"]) == 3


def test_guest_ram_alone(sevkit_json, dump: Path) -> None:
    _, envelope = sevkit_json("scan", "--core", str(dump), "--regex", "correct-[a-z]{3,9}", "--ram-only")
    assert [hit["gpa"] for hit in envelope["data"]["hits"]] == [0x1FFE, 0x500000]
    assert [hit["length"] for hit in envelope["data"]["hits"]] == [13, 13]


def test_text_as_windows_keeps_it(sevkit_json, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x1000, "wide-secret".encode("utf-16-le"))]))
    assert not sevkit_json("scan", "--core", str(path), "--secret", "wide-secret")[1]["data"]["hits"]
    _, envelope = sevkit_json("scan", "--core", str(path), "--secret", "wide-secret", "--wide")
    assert envelope["data"]["hits"][0]["pattern"] == "secret 1 (UTF-16)"


def test_not_found_in_a_core_that_is_cut_short_is_inconclusive(sevkit_json, dump: Path) -> None:
    os.truncate(dump, dump.stat().st_size - 8192)
    status, envelope = sevkit_json("scan", "--core", str(dump), "--secret", "never-there-at-all")
    assert (status, envelope["status"]) == (3, "partial")
    assert "beyond the end of the file" in envelope["errors"][0]["message"]
    status, _ = sevkit_json("scan", "--core", str(dump), "--secret", SECRET)
    assert status == 0  # what was found was found


def test_too_many_hits_stop_the_search_and_say_so(sevkit_json, dump: Path) -> None:
    status, envelope = sevkit_json("scan", "--core", str(dump), "--secret", "\0\0", "--max-hits", "10")
    assert status == 3
    assert not envelope["data"]["finished"]
    assert "more than 10 hits" in envelope["errors"][0]["message"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--secret", "x"), 2, "no memory is named"),
        (("--pid", "1", "--core", "x", "--secret", "x"), 2, "no memory is named"),
        (("--core", "/nonexistent", "--secret", "x"), 2, "cannot open"),
        (("--core", "/dev/null", "--secret", "x"), 2, "not a regular file"),
        (("--pid", "4194305", "--secret", "x"), 4, "no process"),
        (("--pid", "1"), 2, "nothing to search for"),
        (("--pid", "1", "--secrets-file", "/nonexistent"), 2, "cannot read"),
        (("--pid", str(os.getpid()), "--regex", "(unclosed"), 2, "not understood"),
        (("--pid", str(os.getpid()), "--regex", "x*"), 2, "matches nothing"),
        (("--pid", str(os.getpid()), "--secret", "x" * 9000), 2, "at most 8192"),
        (("--pid", str(os.getpid()), "--secret", "x", "--qmp", "/nonexistent"), 5, "cannot ask QEMU"),
        (("--pid", str(os.getpid()), "--secret", "x", "--ram-only"), 2, "no guest RAM"),
    ],
)
def test_what_cannot_be_done_is_said_in_words_with_its_exit_status(sevkit, arguments, status: int, says: str) -> None:
    code, out, err = sevkit("scan", *arguments)
    assert (code, out) == (status, "")
    assert says in err
    assert "Traceback" not in err


def test_a_running_process_is_searched_without_a_file(sevkit_json) -> None:
    code = "import sys; s = 'half-' + sys.argv[1]; print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, "of-a-secret"], **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        status, envelope = sevkit_json("scan", "--pid", str(process.pid), "--secret", "half-of-a-secret", "--hold")
        process.kill()
    assert status == 0
    assert envelope["data"]["hits"]
    assert envelope["data"]["coverage"]["skipped_unpopulated_bytes"] > 0


def test_a_map_is_printed_and_drawn(sevkit, sevkit_json, dump: Path, tmp_path: Path) -> None:
    status, out, _ = sevkit("memory", "map", "--core", str(dump), "--secret", SECRET)
    assert status == 0
    assert "zero" in out
    assert "@" in out
    for name in ("map.html", "map.png", "map.svg", "map.json"):
        target = tmp_path / name
        status, envelope = sevkit_json(
            "memory", "map", "--core", str(dump), "--core", str(dump), "--title", "nosev", "-o", str(target)
        )
        assert (status, target.exists()) == (0, True)
    assert [each["title"] for each in envelope["data"]["maps"]] == ["nosev", str(dump)]
    drawn = from_dict(json.loads((tmp_path / "map.json").read_text())["maps"][0])
    assert drawn.counts["zero"] == 4096 - 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no memory is named"),
        (("--core", "x", "-o", "map.bmp"), "cannot draw"),
        (("--core", "x", "--qmp", "s"), "more --qmp"),
    ],
)
def test_maps_that_cannot_be_drawn(sevkit, arguments, says: str) -> None:
    code, _, err = sevkit("memory", "map", *arguments)
    assert code == 2
    assert says in err


def test_a_process_that_is_no_vmm_has_no_map(sevkit, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x1000, bytes(4096))]))
    code, _, err = sevkit("memory", "map", "--core", str(path))
    assert code == 2
    assert "no guest RAM was found" in err


def test_guest_ram_is_extracted_to_a_private_file(sevkit_json, dump: Path, tmp_path: Path) -> None:
    target = tmp_path / "ram.lime"
    status, envelope = sevkit_json("memory", "extract", "--core", str(dump), "-o", str(target))
    assert status == 0
    assert envelope["data"]["read_bytes"] == RAM
    assert target.stat().st_size == RAM + 32
    assert target.stat().st_mode & 0o777 == 0o600
    status, envelope = sevkit_json("memory", "extract", "--core", str(dump), "-o", str(target))
    assert status == 4
    assert "exists" in envelope["errors"][0]["message"]


def _plain(words: list[str]) -> tuple[int, dict[str, object]]:
    done = subprocess.run([sys.executable, "-m", "sevkit", *words], capture_output=True, timeout=60, check=False)
    answer = json.loads(done.stdout)
    if answer["data"]:
        answer["data"].pop("seconds")
    return done.returncode, answer


def test_many_secrets_of_every_length_are_found(sevkit_json, tmp_path: Path) -> None:
    secrets = [(b"%x-" % number) * (1 + number % 9) for number in range(700)]
    dump = tmp_path / "a.core"
    dump.write_bytes(core([Load(0x10000, b"\0".join(secrets).ljust(1 << 16, b"\0"))], nt_file([])))
    lines = tmp_path / "secrets"
    lines.write_bytes(b"\n".join(secrets))
    _, envelope = sevkit_json("scan", "--core", str(dump), "--secrets-file", str(lines))
    assert all(pattern["hits"] > 0 for pattern in envelope["data"]["patterns"])


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_is_told_of_as_such_though_the_secrets_came_by_standard_input(form: list[str], dump: Path) -> None:
    argv = [sys.executable, "-m", "sevkit", "scan", "--core", str(dump), "--secrets-file", "-", *form]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(argv, input=b"the-needle\n", stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 4
    assert b"No space left" in done.stderr


def test_a_defect_is_told_of_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dump: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("sevkit.memory.search.request.answer", broken)
    with pytest.raises(SystemExit) as ended:
        main(["scan", "--core", str(dump), "--secret", "the-needle", "--json"])
    assert ended.value.code == 4
    assert "sevkit itself failed: ZeroDivisionError" in json.loads(capsys.readouterr().out)["errors"][0]["message"]
