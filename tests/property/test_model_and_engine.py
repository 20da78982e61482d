"""The software model and the emulator's engine have one reverse map table: same steps, same answers, same 16 bytes.

The engine's table (rmp-table.c) builds outside of QEMU; both run random sequences of what host and guest can do.
"""

import ctypes
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sevkit import processes
from sevkit.model.faults import Fault
from sevkit.model.memory import SparseDram
from sevkit.model.rmp import COUNTERS, ENTRY_SIZE, Rmp
from sevkit.model.rmp_entry import LARGE_PAGES

SOURCE = Path(__file__).parents[2] / "emulator/engine/target/i386/sev-tcg/rmp-table.c"
PAGES = 2 * LARGE_PAGES
BASE = 1 << 23  # the table lies beyond the pages it covers
PAGE = 4096

# SevRmpCheck, in its order, and the names that the model's checks end with.
CHECKS = ("pass", "assigned", "asid", "size", "gpa", "immutable", "validated", "vmsa-write", "vmpl")
READ, WRITE, EXECUTE = 1, 2, 8

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")


class Table(ctypes.Structure):
    _fields_ = (("entries", ctypes.c_void_p), ("pages", ctypes.c_uint64))


class Access(ctypes.Structure):
    _fields_ = (
        ("gfn", ctypes.c_uint64), ("asid", ctypes.c_uint16), ("vmpl", ctypes.c_uint8), ("wants", ctypes.c_uint8),
        ("mapping_large", ctypes.c_bool),
    )  # fmt: skip


Answer = tuple[Any, ...]


class Engine:
    """rmp-table.c, with a table of its own."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.memory = ctypes.create_string_buffer(PAGES * ENTRY_SIZE)
        self._table = ctypes.byref(Table(ctypes.addressof(self.memory), PAGES))

    def _call(self, name: str, page: int, *arguments: Any) -> int:
        return int(getattr(self._library, f"sev_rmp_{name}")(self._table, ctypes.c_uint64(page), *arguments))

    def entry(self, page: int) -> bytes:
        return self.memory.raw[page * ENTRY_SIZE : (page + 1) * ENTRY_SIZE]

    def update(self, page: int, assigned: bool, asid: int, gfn: int, large: bool, immutable: bool) -> Answer:
        word = assigned | large << 1 | immutable << 2 | gfn << 12 | asid << 51
        return (self._call("update", page, word.to_bytes(16, "little")),)

    def smash(self, page: int) -> Answer:
        return (self._call("smash", page),)

    def validate(self, page: int, asid: int, gfn: int, large: bool, validate: bool, vmpl: int) -> Answer:
        unchanged, fault = ctypes.c_bool(), ctypes.c_int()
        access = ctypes.byref(Access(gfn, asid, vmpl, 0, False))
        result = self._call(
            "validate", page, access, ctypes.c_bool(large), ctypes.c_bool(validate), ctypes.byref(unchanged),
            ctypes.byref(fault),
        )  # fmt: skip
        return (CHECKS[fault.value],) if fault.value else (result, unchanged.value)

    def adjust(
        self, page: int, asid: int, gfn: int, large: bool, target: int, perms: int, vmpl: int, vmsa: bool
    ) -> Answer:
        fault = ctypes.c_int()
        access = ctypes.byref(Access(gfn, asid, vmpl, 0, False))
        result = self._call(
            "adjust", page, access, ctypes.c_bool(large), ctypes.c_uint(target), ctypes.c_uint8(perms),
            ctypes.c_bool(vmsa), ctypes.byref(fault),
        )  # fmt: skip
        return (CHECKS[fault.value],) if fault.value else (result,)

    def private(self, page: int, asid: int, gfn: int, wants: int, vmpl: int, mapping_large: bool) -> Answer:
        access = ctypes.byref(Access(gfn, asid, vmpl, wants, mapping_large))
        return (CHECKS[self._call("check_private", page, access)],)

    def shared_write(self, page: int) -> Answer:
        return (CHECKS[self._call("check_shared_write", page)],)

    def host_write(self, page: int, mapping_large: bool) -> Answer:
        return (CHECKS[self._call("check_host_write", page, ctypes.c_bool(mapping_large))],)


class Model:
    """sevkit/model/rmp.py, with the same methods."""

    def __init__(self) -> None:
        self._dram = SparseDram(BASE + (1 << 20))
        self.rmp = Rmp(self._dram, BASE, PAGES * PAGE)

    def entry(self, page: int) -> bytes:
        return self._dram.read(self.rmp.entry_address(page * PAGE), ENTRY_SIZE)

    def table(self) -> bytes:
        return self._dram.read(BASE + COUNTERS, PAGES * ENTRY_SIZE)

    def update(self, page: int, assigned: bool, asid: int, gfn: int, large: bool, immutable: bool) -> Answer:
        asked = {"assigned": assigned, "asid": asid, "gpa": gfn * PAGE, "large": large, "immutable": immutable}
        return (self.rmp.rmpupdate(page * PAGE, **asked),)  # type: ignore[arg-type]

    def smash(self, page: int) -> Answer:
        return (self.rmp.psmash(page * PAGE),)

    def validate(self, page: int, asid: int, gfn: int, large: bool, validate: bool, vmpl: int) -> Answer:
        return self._tried(
            lambda: self.rmp.pvalidate(page * PAGE, asid, gfn * PAGE, validate=validate, large=large, vmpl=vmpl)
        )

    def adjust(
        self, page: int, asid: int, gfn: int, large: bool, target: int, perms: int, vmpl: int, vmsa: bool
    ) -> Answer:
        return self._tried(
            lambda: (
                self.rmp.rmpadjust(
                    page * PAGE, asid, gfn * PAGE, target=target, perms=perms, vmpl=vmpl, vmsa=vmsa, large=large
                ),
            )
        )

    def private(self, page: int, asid: int, gfn: int, wants: int, vmpl: int, mapping_large: bool) -> Answer:
        access = self.rmp.access(
            page * PAGE, asid, gfn * PAGE, write=wants == WRITE, execute=wants == EXECUTE, vmpl=vmpl,
            mapping_large=mapping_large,
        )  # fmt: skip
        return self._tried(lambda: self.rmp.check_guest(access))

    def shared_write(self, page: int) -> Answer:
        return self._tried(lambda: self.rmp.check_guest_shared_write(page * PAGE, 1, 0))

    def host_write(self, page: int, mapping_large: bool) -> Answer:
        return self._tried(lambda: self.rmp.check_host_write(page * PAGE, mapping_large=mapping_large))

    @staticmethod
    def _tried(action: Callable[[], Any]) -> Answer:
        try:
            done = action()
        except Fault as fault:
            name = fault.check.removesuffix("-smash")
            return ("size" if name != fault.check else next(c for c in CHECKS if name.endswith(c)),)
        return ("pass",) if done is None else tuple(done)


@dataclass
class Steps:
    """What host and guest do, drawn so that most of it concerns a page's present owner."""

    random: random.Random
    model: Model

    def next(self) -> tuple[str, Answer]:
        draw = self.random
        page = draw.choice([0, 1, 2, 3, 511, 512, 513, draw.randrange(PAGES)])
        entry, gpa = self.model.rmp.lookup(page * PAGE)
        fits = draw.random() < 0.9
        asid = entry.asid if fits and entry.asid else draw.randrange(4)
        gfn = gpa // PAGE if fits else draw.choice([0, page, draw.randrange(1 << 20)])
        large = entry.large if fits else draw.random() < 0.5
        vmpl = draw.choice([0, 0, 0, 1, 3])
        name = draw.choices(
            ("update", "smash", "validate", "adjust", "private", "shared_write", "host_write"),
            (30, 1, 25, 15, 25, 3, 3),
        )[0]
        if name == "update":
            return name, self._update(page)
        if name == "smash":
            return name, (page // LARGE_PAGES * LARGE_PAGES if fits else page,)
        if name == "validate":
            head = page // LARGE_PAGES * LARGE_PAGES
            at = head if large and entry.large else page
            return name, (at, asid, entry.gpa // PAGE if at == head else gfn, large, draw.random() < 0.7, vmpl)
        if name == "adjust":
            target = draw.choice([1, 2, 3, draw.randrange(6)])
            return name, (
                page,
                asid,
                gfn,
                large,
                target,
                draw.choice([0, 1, 3, 15, draw.randrange(64)]),
                vmpl,
                draw.random() < 0.4,
            )
        if name == "private":
            return name, (page, asid, gfn, draw.choice([READ, WRITE, EXECUTE]), vmpl, draw.random() < 0.3)
        return name, (page,) if name == "shared_write" else (page, draw.random() < 0.5)

    def _update(self, page: int) -> Answer:
        draw = self.random
        large = draw.random() < 0.05
        if large and draw.random() < 0.9:
            page = page // LARGE_PAGES * LARGE_PAGES
        assigned = draw.random() < 0.7
        asid = draw.choice([1, 1, 2, 3, 0]) if assigned or draw.random() < 0.1 else 0
        gfn = draw.choice([page, draw.randrange(1 << 20)]) if asid or draw.random() < 0.1 else 0
        return page, assigned, asid, gfn, large, draw.random() < 0.02


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if not SOURCE.exists():
        pytest.skip("this build of the emulator has no reverse map table")
    target = tmp_path_factory.mktemp("rmp") / "rmp-table.so"
    command = [
        processes.find_tool("gcc"),
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(target),
        str(SOURCE),
    ]
    done = processes.run(command, timeout=120)
    assert done.status == 0, done.error_text
    return ctypes.CDLL(str(target))


@pytest.mark.parametrize("seed", range(10))
def test_the_same_steps_have_the_same_outcome(library: ctypes.CDLL, seed: int) -> None:
    model, engine = Model(), Engine(library)
    steps = Steps(random.Random(seed), model)
    seen: dict[str, set[Answer]] = {}
    for number in range(10_000):
        name, arguments = steps.next()
        expected = getattr(model, name)(*arguments)
        assert getattr(engine, name)(*arguments) == expected, f"step {number}: {name}{arguments}"
        page = arguments[0]
        for touched in (page, page // LARGE_PAGES * LARGE_PAGES):
            assert engine.entry(touched) == model.entry(touched), f"step {number}: {name}{arguments}, page {touched}"
        seen.setdefault(name, set()).add(expected)
        if number % 500 == 0 and seed % 2:  # what became immutable would stay so: start anew
            model, engine = Model(), Engine(library)
            steps.model = model
    assert engine.memory.raw == model.table()
    assert {answer for answers in seen.values() for answer in answers} >= {
        ("pass",), ("assigned",), ("asid",), ("gpa",), ("validated",), ("vmpl",), (0, True), (0, False), (0,), (2,)
    }  # fmt: skip
