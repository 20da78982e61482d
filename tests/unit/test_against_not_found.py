"""Against "not found": whatever hides a secret, it is found, or the answer is inconclusive, or names what it leaves open."""

import contextlib
import gzip
import lzma
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sevkit import procfs
from sevkit.doctor import looks
from sevkit.errors import BadInputError, ExitCode, SevkitError, UsageError
from sevkit.memory.search import native
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.request import Request, answer
from sevkit.memory.search.scan import scan
from sevkit.memory.sources import activity
from sevkit.memory.sources.base import Session, Stretch
from sevkit.memory.sources.core import CoreMemory
from sevkit.memory.sources.process import LiveMemory
from tests.property.test_scan_law import Island, Islands
from tests.support.waiting import until
from tests.unit.elf import Load, core

PAGE = 4096
SECRET = b"a-secret-that-somebody-hides-7741"


def searched(path: Path, **options: object) -> tuple[int, int]:
    """Hits and exit status of `scan --core`."""
    result = answer(Request(core=path, **{"secrets": [SECRET.decode()], **options}))  # type: ignore[arg-type]
    assert result.data is not None
    assert result.data["hits"] or result.data["limits"]
    return len(result.data["hits"]), result.exit_code


# --- compressed files


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_compressed_image_in_several_streams_is_searched_to_its_end(kind: str, at: int, tmp_path: Path) -> None:
    parts = [bytes(9 << 20), bytes(100), bytes(5000)]
    parts[at] += SECRET
    path = tmp_path / f"image.raw.{kind}"
    path.write_bytes(b"".join(map(PACKERS[kind], parts)))
    assert searched(path) == (1, ExitCode.DONE)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("damage", ["a second stream is damaged", "words behind it", "cut", "cut in the second"])
def test_a_compressed_image_that_is_damaged_is_no_image(kind: str, damage: str, tmp_path: Path) -> None:
    """LZMAFile ignores whatever comes behind the first whole stream, if it is no whole stream itself."""
    first, second = PACKERS[kind](bytes(5000)), bytearray(PACKERS[kind](bytes(5000) + SECRET))
    if damage == "a second stream is damaged":
        second[2] ^= 0xFF
    elif damage == "words behind it":
        second = bytearray(b"these are no data")
    elif damage == "cut in the second":
        del second[-20:]
    else:
        second = bytearray()
        first = first[:-3]
    path = tmp_path / f"image.raw.{kind}"
    path.write_bytes(first + second)
    with pytest.raises(SevkitError):
        searched(path)


def test_padding_between_streams_is_part_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "image.raw.xz"
    path.write_bytes(lzma.compress(bytes(5000)) + bytes(8) + lzma.compress(SECRET) + bytes(4))
    assert searched(path) == (1, ExitCode.DONE)


def test_an_image_of_raw_memory_that_ends_within_a_page_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    path.write_bytes(bytes(PAGE) + SECRET[:20])
    assert searched(path) == (0, ExitCode.INCONCLUSIVE)
    path.write_bytes(bytes(2 * PAGE))
    assert searched(path) == (0, ExitCode.DONE)


# --- cores


def test_a_core_that_is_written_to_meanwhile_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(PAGE, bytes(PAGE))]))

    class Written(CoreMemory):
        def session(self) -> Session:  # type: ignore[override]
            with path.open("r+b") as file:
                file.write(b"\x7fELF")
            os.utime(path, (1, 1))
            return Session()

    with Written(path) as memory:
        result = scan(memory, [Pattern(SECRET)])
    assert not result.conclusive
    assert "changed" in str(result.stopped)


def test_memory_that_the_core_leaves_out_is_counted(tmp_path: Path) -> None:
    """p_filesz is less than p_memsz: the kernel does so for mapped files, and for what the core filter excludes."""
    path = tmp_path / "core"
    path.write_bytes(core([Load(PAGE, b"a" * PAGE, size=3 * PAGE), Load(9 * PAGE, b"", size=PAGE)]))
    assert searched(path) == (0, ExitCode.INCONCLUSIVE)


def test_a_secret_across_segments_and_at_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "core"
    body = bytes(PAGE - 10) + SECRET + bytes(PAGE)
    end = bytes(PAGE - len(SECRET)) + SECRET
    loads = [Load(PAGE, body[:PAGE]), Load(2 * PAGE, body[PAGE : 2 * PAGE]), Load((1 << 47) - PAGE, end)]
    path.write_bytes(core(loads))
    assert searched(path) == (2, ExitCode.DONE)


@pytest.mark.parametrize("kind", ["executable", "object"])
def test_what_is_no_core_is_refused(kind: str, tmp_path: Path) -> None:
    data = bytearray(core([Load(PAGE, SECRET)]))
    data[16] = 2 if kind == "executable" else 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BadInputError):
        searched(tmp_path / "file")


# --- secrets of odd forms


@pytest.mark.parametrize("built", [True, False])
def test_short_binary_and_many_secrets_are_all_found(built: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a search by bytes.find: 1 to 3 bytes, every byte value, thousands, twice the same, one within another."""
    if not built:
        monkeypatch.setattr(native, "built", False)
    chance = random.Random(7)
    for number in range(12):
        data = bytes(chance.choices(range(256) if number % 2 else b"\0\1\xff", k=PAGE + 300))
        count = (1, 2, 3, 40, 1500)[number % 5]
        values = [data[at : at + chance.choice([1, 2, 3, 4, 5, 9])] for at in chance.choices(range(PAGE), k=count)]
        values += [values[0], values[0][:1], bytes(range(7))]
        found = scan(Islands([(5 * PAGE, data)]), [Pattern(value) for value in values], max_hits=10**8, threads=2)
        wanted = {value: _places(value, data) for value in set(values)}
        assert found.conclusive
        hits: dict[int, set[int]] = {index: set() for index in range(len(values))}
        for hit in found.hits:
            hits[hit.pattern].add(hit.address - 5 * PAGE)
        assert all(hits[index] == wanted[value] for index, value in enumerate(values))


def _places(value: bytes, data: bytes) -> set[int]:
    found, at = set(), data.find(value)
    while at >= 0:
        found.add(at)
        at = data.find(value, at + 1)
    return found


def test_a_key_given_as_hexadecimal_digits(tmp_path: Path) -> None:
    key = bytes(range(0xE0, 0x100)) + b"\0\n"
    path = tmp_path / "core"
    path.write_bytes(core([Load(PAGE, bytes(77) + key)]))
    assert searched(path, secrets=[key.hex()], hexadecimal=True) == (1, ExitCode.DONE)
    assert searched(path, secrets=[key.hex(" ").upper()], hexadecimal=True) == (1, ExitCode.DONE)
    each = ", ".join(f"0x{byte:02X}" for byte in key)
    for form in (f"0x{key.hex()}", key.hex(":"), f"  {key.hex()}\n", each, "0x" + key.hex(" ", 8).replace(" ", " 0x")):
        assert searched(path, secrets=[form], hexadecimal=True) == (1, ExitCode.DONE)
    assert searched(path, secrets=[key.hex()])[0] == 0
    for wrong in ("abc", "xy", "", "0x", "a:b"):
        with pytest.raises(UsageError):
            searched(path, secrets=[wrong], hexadecimal=True)


@pytest.mark.parametrize("options", [{"wide": True}, {"halves": True}, {"hexadecimal": True}])
def test_options_for_secrets_are_refused_where_only_an_expression_is_given(options: dict[str, bool]) -> None:
    with pytest.raises(UsageError, match="are for secrets"):
        answer(Request(core="/nowhere", regexes=["secret"], **options))  # type: ignore[arg-type]


def cut_in_two(path: Path, secret: bytes, cut: int) -> Path:
    """A core in which a secret is cut by the border of two pages that are apart."""
    first, second = bytes(PAGE - cut) + secret[:cut], secret[cut:].ljust(PAGE, b"\0")
    path.write_bytes(core([Load(0x10000000, (second + bytes(PAGE) + first).ljust(16 << 20, b"\0"))]))
    return path


@pytest.mark.parametrize("cut", range(1, len(SECRET), 3))
def test_a_secret_in_two_pages_that_are_apart_is_never_a_conclusive_not_found(cut: int, tmp_path: Path) -> None:
    """What is side by side for the guest need not be so in its physical memory, which is what the host sees."""
    path = cut_in_two(tmp_path / "core", SECRET, cut)
    whole = answer(Request(core=path, secrets=[SECRET.decode()]))
    assert whole.data is not None
    assert whole.data["hits"] == []
    assert (whole.exit_code, whole.data["verdict"]) == (ExitCode.INCONCLUSIVE, "inconclusive")
    assert "of secret 1 stand at the border of a page" in whole.data["doubts"][0]
    result = answer(Request(core=path, secrets=[SECRET.decode()], halves=True))
    assert result.data is not None
    found = {hit["pattern"] for hit in result.data["hits"]}
    assert found
    assert found <= {"secret 1 (first half)", "secret 1 (second half)"}


@given(st.binary(min_size=7, max_size=200), st.data())
def test_each_cut_of_a_secret_that_tells_something_is_seen(value: bytes, data: st.DataObject) -> None:
    """Whatever the secret, wherever it is cut, however the memory is cut into pieces."""
    cut = data.draw(st.integers(1, len(value) - 1))
    memory = (value[cut:].ljust(3 * PAGE, b"\xee") + value[:cut].rjust(PAGE, b"\xee")).ljust(6 * PAGE, b"\xee")
    chunk = data.draw(st.sampled_from([PAGE, 3 * PAGE, 1 << 20]))
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(core([Load(0x10000000, memory)]))
        with CoreMemory(file.name) as source:
            found = scan(source, [Pattern(value)], chunk=chunk)
    if not found.hits and native.cut_is_seen(value):
        assert [part for part in found.parts if part.cut == cut]


@pytest.mark.parametrize(
    ("secret", "says"),
    [(b"short", "too short"), (bytes(40).hex().encode(), "too uniform"), (b"never-there-at-all", None)],
)
def test_a_secret_that_no_page_has_a_part_of_is_conclusively_not_found(
    secret: bytes, says: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, os.urandom(PAGE).ljust(16 << 20, b"\0"))]))
    result = answer(Request(core=path, secrets=[secret.decode()]))
    assert result.data is not None
    assert [bool(says and says in doubt) for doubt in result.data["doubts"]] == ([True] if says else [])
    assert result.data["verdict"] == ("inconclusive" if says else "not found")


def test_many_secrets_are_doubted_where_their_cuts_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, bytes(16 << 20))]))
    many = [f"never-there-{number:08}" for number in range(native.MOST_CUT // 20 + 1)]
    result = answer(Request(core=path, secrets=many))
    assert result.data is not None
    assert result.exit_code == ExitCode.INCONCLUSIVE
    assert "search for fewer at once" in result.data["doubts"][0]


@pytest.mark.parametrize(("file", "says"), [(True, "another version"), (False, "was not built: install a C compiler")])
def test_without_the_compiled_search_the_doubt_says_why(
    file: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "find.so"
    if file:
        library.touch()
    monkeypatch.setattr(native, "_PATH", str(library))
    monkeypatch.setattr(native, "built", False)
    monkeypatch.setattr(native, "_library", None)
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, bytes(16 << 20))]))
    result = answer(Request(core=path, secrets=["never-there-at-all"]))
    assert result.data is not None
    assert result.data["verdict"] == "inconclusive"
    (doubt,) = result.data["doubts"]
    assert says in doubt
    assert "make setup" in doubt
    assert not looks.search().works


@pytest.mark.parametrize("long_way", [False, True])
def test_many_parts_at_the_borders_of_pages_leave_no_memory_unsearched(long_way: bool, tmp_path: Path) -> None:
    """Parts share the room for hits: when it is full, neither of them need be more than its own limit."""
    prefix = b"what-many-secrets-begin-with-"
    values = [SECRET, *(prefix + b"%04d" % number for number in range(6000))]
    pages = (bytes(PAGE - len(prefix)) + prefix) * 2
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, (pages.ljust(300 << 10, b"\0") + SECRET).ljust(1 << 20, b"\0"))]))
    patterns = [Pattern(value) for value in values] + [Pattern(b"x.{9}y", regex=True)] * long_way
    with CoreMemory(path) as source:
        for most in (1, 10_000, 100_000):
            result = scan(source, patterns, max_hits=most)
            coverage = result.coverage
            assert result.finished == (not native.built or most > 12_000)
            assert [hit.pattern for hit in result.hits] == [0] * result.finished
            assert coverage.mapped_bytes == coverage.read_bytes + coverage.unread_bytes
            assert coverage.complete == result.conclusive == result.finished


def test_matches_that_may_be_too_long_are_named(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(PAGE, b"begin" + b"." * 9000 + b"end")]))
    result = answer(Request(core=path, regexes=["begin.*end"]))
    assert result.data is not None
    assert result.data["hits"] == []
    assert any("4096 bytes" in limit for limit in result.data["limits"])


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"secrets": ["the-secret-text "]}, "white space at an end of secret 1 is part"),
        ({"secrets": ["\tthe-secret-text", "the-secret-text\t"]}, "secret 1 and 1 more is part"),
        ({"secrets": ["the-secret-texts"]}, None),
        ({"regexes": ["secret-text$"]}, "beside the NUL byte"),
        ({"regexes": ["^the-secret"]}, "beside the NUL byte"),
        ({"regexes": [r"[^t]secret\$", "secret-[^a-z]ext"]}, None),
    ],
)
def test_what_keeps_a_text_from_being_found_is_named(
    asked: dict[str, list[str]], named: str | None, tmp_path: Path
) -> None:
    """The text is there, and "not found" is right to the letter: a line of a file that was edited ends with a blank."""
    path = tmp_path / "core"
    path.write_bytes(core([Load(PAGE, b"\0the-secret-text\0".ljust(PAGE, b"\0"))]))
    result = answer(Request(core=path, **asked))
    assert result.data is not None
    assert result.data["hits"] == []
    said = [limit for limit in result.data["limits"] if "white space" in limit or "NUL byte" in limit]
    assert [named is not None and named in limit for limit in said] == ([True] if named else [])


# --- processes that go on

LATE = """
import mmap, sys
kept = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print(flush=True)
for line in sys.stdin:
    secret = bytes.fromhex("%s")
    if line == "new\\n":
        more = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        more[5 << 20 : (5 << 20) + len(secret)] = secret
    if line == "old\\n":
        kept[60 << 20 : (60 << 20) + len(secret)] = secret
    del secret
    print(flush=True)
"""


@pytest.fixture
def late() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that holds the secret when it is told to, in a new mapping or in a page that it had not touched."""
    code = LATE % "".join(f"{byte:02x}" for byte in SECRET)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def say(process: "subprocess.Popen[bytes]", word: bytes) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + b"\n")
    process.stdin.flush()
    process.stdout.readline()


@pytest.mark.parametrize("where", [b"new", b"old"])
def test_memory_that_comes_while_the_search_runs_is_searched_too(where: bytes, late: "subprocess.Popen[bytes]") -> None:
    class Growing(LiveMemory):
        def session(self) -> Session:  # type: ignore[override]
            say(late, where)
            return Session()

    other = b"nothing-like-this-is-there-" + os.urandom(4).hex().encode()
    with Growing(late.pid) as memory:
        result = scan(memory, [Pattern(SECRET), Pattern(other)])
    places = [hit.address for hit in result.hits if hit.pattern == 0]
    assert any(address % (1 << 20) == 0 for address in places)
    coverage = result.coverage
    assert coverage.mapped_bytes == (
        coverage.read_bytes + coverage.skipped_unpopulated_bytes + coverage.unreadable_bytes + coverage.unread_bytes
    )


class Grown(Islands):
    """Memory of which there is more when the search looks at it again."""

    def __init__(self, first: int, islands: Sequence[Island], bad: frozenset[int] = frozenset()) -> None:
        super().__init__(islands, bad)
        self.first = first

    def stretches(self) -> list[Stretch]:
        return super().stretches()[: self.first]

    def newer(self) -> list[Stretch]:
        return super().stretches()


@pytest.mark.parametrize(("before", "after"), [(60, 60), (0, 101)])
def test_more_hits_than_asked_for_in_memory_that_comes_meanwhile_end_the_search(before: int, after: int) -> None:
    """The secret is at the end: among more hits than are reported, or where a search with too many hits stopped."""
    islands = [(PAGE, b"many-many " * before + b"."), (1 << 30, b"many-many " * after + bytes(9 << 20) + SECRET)]
    for patterns in ([Pattern(b"many-many"), Pattern(SECRET)], [Pattern(b"m[a]ny-", regex=True), Pattern(SECRET)]):
        result = scan(Grown(1, islands), patterns, max_hits=100)
        assert result.stopped == "more than 100 hits"
        assert not result.conclusive
        coverage = result.coverage
        assert coverage.mapped_bytes == sum(len(data) for _, data in islands)
        assert coverage.unread_bytes == len(islands[1][1])
        assert coverage.read_bytes == len(islands[0][1])
        assert len(scan(Grown(1, islands), patterns, max_hits=121).hits) == before + after + 1


def test_memory_that_comes_meanwhile_and_cannot_be_read_is_lost() -> None:
    islands = [(PAGE, b"first"), (16 * PAGE, bytes(3 * PAGE))]
    result = scan(Grown(1, islands, frozenset({17})), [Pattern(SECRET)])
    assert result.coverage.unreadable_bytes == PAGE
    assert result.lost == ((17 * PAGE, 18 * PAGE),)
    assert not result.conclusive


def test_a_process_that_maps_more_and_more_is_never_searched_to_its_end(late: "subprocess.Popen[bytes]") -> None:
    class Endless(LiveMemory):
        def newer(self) -> object:  # type: ignore[override]
            say(late, b"new")
            return super().newer()

    with Endless(late.pid) as memory:
        result = scan(memory, [Pattern(b"x" * 99)])
    assert not result.conclusive
    assert result.coverage.unread_bytes > 0


def asleep(process: "subprocess.Popen[bytes]") -> None:
    """Wait until it waits for input: what it printed last it may have printed while it still ran."""
    until(lambda: procfs.thread_state(process.pid, process.pid) == "S", "the process does not wait")


def absent() -> str:
    return "never-there-" + os.urandom(4).hex()


def test_not_found_in_a_process_that_slept_throughout_is_conclusive(late: "subprocess.Popen[bytes]") -> None:
    for hold in (False, True):
        asleep(late)
        result = answer(Request(pid=late.pid, secrets=[absent()], hold=hold))
        assert result.data is not None
        assert (result.exit_code, result.data["verdict"], result.data["doubts"]) == (ExitCode.DONE, "not found", [])


@pytest.fixture
def busy() -> "Iterator[subprocess.Popen[bytes]]":
    """A process with a thread that never rests."""
    code = "import threading; print(flush=True); threading.Thread(target=lambda: any(iter(int, 1))).start()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_not_found_in_a_process_that_runs_is_inconclusive_unless_it_is_held(busy: "subprocess.Popen[bytes]") -> None:
    """Data that moves from memory that was not searched yet to memory that was is never seen."""
    free = answer(Request(pid=busy.pid, secrets=[absent()]))
    held = answer(Request(pid=busy.pid, secrets=[absent()], hold=True))
    assert free.data is not None
    assert held.data is not None
    assert (free.exit_code, free.data["verdict"]) == (ExitCode.INCONCLUSIVE, "inconclusive")
    assert any("--hold" in doubt for doubt in free.data["doubts"])
    assert (held.exit_code, held.data["verdict"], held.data["doubts"]) == (ExitCode.DONE, "not found", [])


def test_a_wake_up_between_start_and_end_is_noticed(late: "subprocess.Popen[bytes]") -> None:
    """A process that sleeps at both moments may have moved its data in between."""
    asleep(late)
    with LiveMemory(late.pid) as memory:
        assert memory.moved() == []
        say(late, b"nothing")
        assert "--hold" in memory.moved()[0]


ONE_MEMORY = """
import ctypes, mmap, os, sys
libc, stack = ctypes.CDLL(None), mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
top = ctypes.addressof(ctypes.c_char.from_buffer(stack)) + (1 << 20) - 64
child = libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_void_p(top), 0x100 | 17, None)  # CLONE_VM
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""


@pytest.mark.parametrize("refused", [False, True], ids=["kcmp", "kcmp refused"])
def test_a_process_that_shares_the_address_space_can_write_to_it(
    refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no thread, so that holding the process does not stop it."""
    if refused:
        monkeypatch.setattr(activity, "_KCMP", 1 << 20)
    argv = [sys.executable, "-c", ONE_MEMORY]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        found = activity.writers(process.pid, [])
        assert process.stdin is not None
        process.stdin.close()
    assert found == [child]


SHARING = """
import mmap, os, sys
memory = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)
print(flush=True)
while sys.stdin.readline() == "again\\n":
    print(flush=True)
any(iter(int, 1))
"""


def test_another_process_that_writes_to_the_memory_of_one_that_is_held_is_a_doubt(tmp_path: Path) -> None:
    """One that sleeps meanwhile, or is stopped, writes nothing."""
    file = tmp_path / "ram"
    file.write_bytes(bytes(1 << 20))
    argv = [sys.executable, "-c", SHARING, str(file)]
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) for _ in range(2)
        ]
        for process in both:
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            asleep(process)
        assert answer(Request(pid=both[0].pid, secrets=[absent()], hold=True)).exit_code == ExitCode.DONE
        with LiveMemory(both[0].pid, stop=True) as memory:
            say(both[1], b"again")
            assert f"process {both[1].pid} can write" in memory.moved()[0]
        assert both[1].stdin is not None
        both[1].stdin.write(b"run\n")
        both[1].stdin.flush()
        result = answer(Request(pid=both[0].pid, secrets=[absent()], hold=True))
        assert result.exit_code == ExitCode.INCONCLUSIVE
        assert f"process {both[1].pid} can write" in result.errors[0].message
        os.kill(both[1].pid, signal.SIGSTOP)
        os.waitid(os.P_PID, both[1].pid, os.WSTOPPED | os.WNOWAIT)
        result = answer(Request(pid=both[0].pid, secrets=[absent()], hold=True))
        assert result.exit_code == ExitCode.DONE
        assert result.data is not None
        assert any("hold a file of shared memory open" in limit for limit in result.data["limits"])
