"""The RMP, check by check: what each refuses, and that each is needed (mutation: take one away, something fails)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from sevkit.attacks import discover
from sevkit.attacks.experiment import COLUMNS
from sevkit.attacks.matrix import in_model
from sevkit.model import vmsa
from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault
from sevkit.model.launch import launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.platform import Platform
from sevkit.model.rmp_checks import ALL_CHECKS, STAGES
from sevkit.model.rmp_entry import EXECUTE_SUPERVISOR, FULL, READ, STATES, WRITE, PageState, RmpEntry
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode
from tests.model_world import World, drive

A, B, BIG = 8 << 20, (8 << 20) + PAGE, 10 << 20  # system pages
GPA = 0x40_0000


class Bench:
    """A machine with two guests and nothing assigned yet."""

    def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
        self.platform = Platform(PlatformConfig(memory=64 << 20, disabled_checks=disabled))
        self.one = launch(self.platform, Mode.SEV_SNP, pages=0).vm
        self.two = launch(self.platform, Mode.SEV_SNP, pages=0).vm
        assert self.platform.rmp is not None
        self.rmp = self.platform.rmp

    def assign(self, spa: int = A, gpa: int = GPA, *, accept: bool = True, large: bool = False, **how: bool) -> None:
        """Give a page to the first guest and map it there."""
        assert self.rmp.rmpupdate(spa, assigned=True, asid=self.one.asid, gpa=gpa, large=large, **how) == 0
        for number in range(4 if large else 1):
            self.one.remap(gpa + number * PAGE, spa + number * PAGE)
        if accept:
            self.one.accept(gpa, large=large)


def fault(action: Callable[[], object]) -> str:
    """The check that refused, or "" when nothing did."""
    try:
        action()
    except Fault as refusal:
        return f"{refusal.kind} {refusal.check}"
    return ""


# --- one vector a check: it passes as the model is, and fails when that check is taken away


def host_write_assigned(b: Bench) -> None:
    b.assign()
    assert fault(lambda: b.platform.host_write(A, b"x")) == "#PF(RMP) rmp-host-write-assigned"


def host_write_size(b: Bench) -> None:
    b.assign(B)
    assert fault(lambda: b.platform.host_write(A, b"x", mapping_large=True)) == "#PF(RMP) rmp-host-write-size"
    assert fault(lambda: b.platform.host_write(A, b"x")) == ""


def assigned(b: Bench) -> None:
    b.one.remap(GPA, A)
    assert fault(lambda: b.one.read(GPA, 16)) == "#NPF rmp-assigned"


def asid(b: Bench) -> None:
    b.assign()
    b.two.remap(GPA, A)
    assert fault(lambda: b.two.read(GPA, 16)) == "#NPF rmp-asid"


def size(b: Bench) -> None:
    b.assign()
    b.one.remap(GPA, A, large=True)
    assert fault(lambda: b.one.read(GPA, 16)) == "#NPF rmp-size"


def gpa(b: Bench) -> None:
    b.assign()
    b.one.remap(GPA + PAGE, A)
    assert fault(lambda: b.one.read(GPA + PAGE, 16)) == "#NPF rmp-gpa"


def immutable(b: Bench) -> None:
    b.assign()
    assert b.rmp.rmpupdate(A, assigned=True, asid=b.one.asid, gpa=GPA, immutable=True) == 0
    assert b.rmp.state(A) is PageState.PRE_SWAP
    assert fault(lambda: b.one.read(GPA, 16)) == "#NPF rmp-immutable"


def validated(b: Bench) -> None:
    b.assign(accept=False)
    assert fault(lambda: b.one.read(GPA, 16)) == "#VC rmp-validated"


def vmsa_write(b: Bench) -> None:
    b.assign()
    assert b.one.rmpadjust(GPA, target=1, perms=FULL, vmsa=True) == 0
    assert fault(lambda: b.one.write(GPA, b"x")) == "#NPF rmp-vmsa-write"
    assert fault(lambda: b.one.read(GPA, 1)) == ""


def vmpl(b: Bench) -> None:
    b.assign()
    assert fault(lambda: b.one.read(GPA, 16, vmpl=2)) == "#NPF rmp-vmpl"
    assert b.one.rmpadjust(GPA, target=2, perms=READ) == 0
    assert fault(lambda: b.one.read(GPA, 16, vmpl=2)) == ""
    assert fault(lambda: b.one.write(GPA, b"x", vmpl=2)) == "#NPF rmp-vmpl"


def shared_write_assigned(b: Bench) -> None:
    b.assign()
    assert fault(lambda: b.one.write(GPA, b"x", private=False)) == "#NPF rmp-shared-write-assigned"
    assert fault(lambda: b.one.read(GPA, 1, private=False)) == ""


def update_aligned(b: Bench) -> None:
    assert b.rmp.rmpupdate(A + 64, assigned=True, asid=1, gpa=GPA) == 1
    assert b.rmp.rmpupdate(B, assigned=True, asid=1, gpa=GPA, large=True) == 1


def update_state(b: Bench) -> None:
    assert b.rmp.rmpupdate(A, assigned=False, immutable=True) == 1  # HV-fixed is the firmware's to make
    assert b.rmp.rmpupdate(A, assigned=True) == 1  # and so is Reclaim
    assert b.rmp.rmpupdate(A, assigned=False, asid=1) == 1  # no state at all


def update_gpa(b: Bench) -> None:
    assert b.rmp.rmpupdate(A, assigned=False, gpa=GPA) == 1
    assert b.rmp.rmpupdate(A, assigned=True, immutable=True, gpa=GPA) == 1  # Metadata is the firmware's to make


def update_immutable(b: Bench) -> None:
    assert b.rmp.rmpupdate(A, assigned=True, immutable=True) == 0
    assert b.rmp.rmpupdate(A, assigned=False) == 2


def update_overlap_large(b: Bench) -> None:
    b.assign(BIG, large=True)
    assert b.rmp.rmpupdate(BIG + PAGE, assigned=True, asid=b.two.asid, gpa=GPA) == 4


def update_overlap_small(b: Bench) -> None:
    b.assign(BIG + PAGE)
    assert b.rmp.rmpupdate(BIG, assigned=True, asid=b.two.asid, gpa=GPA, large=True) == 4


def update_input(b: Bench) -> None:
    """An ASID that the entry cannot hold would be stored as another guest's, and not be counted as its page."""
    for wrong in ({"asid": 1024 + b.two.asid, "gpa": GPA}, {"asid": 1, "gpa": GPA + 1}, {"asid": 1, "gpa": 1 << 51}):
        assert b.rmp.rmpupdate(A, assigned=True, **wrong) == 1
    assert b.rmp.raw(A).state is PageState.HYPERVISOR
    assert b.rmp.rmpupdate(A, assigned=True, asid=b.two.asid, gpa=(1 << 51) - PAGE) == 0


def update_gpa_aligned(b: Bench) -> None:
    assert b.rmp.rmpupdate(BIG, assigned=True, asid=b.one.asid, gpa=GPA + PAGE, large=True) == 1


def pvalidate_vmpl(b: Bench) -> None:
    b.assign(accept=False)
    assert b.one.pvalidate(GPA, vmpl=1) == (2, False)


def pvalidate_aligned(b: Bench) -> None:
    b.assign(BIG, large=True, accept=False)
    assert b.one.pvalidate(GPA + PAGE, large=True) == (1, False)


def pvalidate_assigned(b: Bench) -> None:
    b.one.remap(GPA, A)
    assert fault(lambda: b.one.pvalidate(GPA)) == "#NPF pvalidate-assigned"


def pvalidate_asid(b: Bench) -> None:
    b.assign(accept=False)
    b.two.remap(GPA, A)
    assert fault(lambda: b.two.pvalidate(GPA)) == "#NPF pvalidate-asid"


def pvalidate_gpa(b: Bench) -> None:
    b.assign(accept=False)
    b.one.remap(GPA + PAGE, A)
    assert fault(lambda: b.one.pvalidate(GPA + PAGE)) == "#NPF pvalidate-gpa"


def pvalidate_immutable(b: Bench) -> None:
    b.assign(accept=False, immutable=True)
    assert fault(lambda: b.one.pvalidate(GPA)) == "#NPF pvalidate-immutable"


def pvalidate_size(b: Bench) -> None:
    b.assign(BIG, accept=False)
    assert b.one.pvalidate(GPA, large=True) == (6, False)


def pvalidate_smash(b: Bench) -> None:
    b.assign(BIG, large=True, accept=False)
    assert fault(lambda: b.one.pvalidate(GPA)) == "#NPF pvalidate-smash"
    assert b.rmp.psmash(BIG) == 0
    assert b.one.pvalidate(GPA) == (0, False)
    assert b.one.pvalidate(GPA) == (0, True)


def adjust_input(b: Bench) -> None:
    b.assign()
    assert b.one.rmpadjust(GPA, target=1, perms=0x20) == 1
    assert b.one.rmpadjust(GPA, target=4, perms=READ) == 1


def adjust_aligned(b: Bench) -> None:
    b.assign(BIG, large=True)
    assert b.one.rmpadjust(GPA + PAGE, target=1, perms=READ, large=True) == 1


def adjust_target(b: Bench) -> None:
    b.assign()
    assert b.one.rmpadjust(GPA, target=0, perms=0) == 2
    assert b.one.rmpadjust(GPA, target=1, perms=FULL) == 0
    assert b.one.rmpadjust(GPA, target=1, perms=READ, vmpl=1) == 2


def adjust_assigned(b: Bench) -> None:
    b.one.remap(GPA, A)
    assert fault(lambda: b.one.rmpadjust(GPA, target=1, perms=READ)) == "#NPF rmpadjust-assigned"


def adjust_asid(b: Bench) -> None:
    b.assign()
    b.two.remap(GPA, A)
    assert fault(lambda: b.two.rmpadjust(GPA, target=1, perms=READ)) == "#NPF rmpadjust-asid"


def adjust_gpa(b: Bench) -> None:
    b.assign()
    b.one.remap(GPA + PAGE, A)
    assert fault(lambda: b.one.rmpadjust(GPA + PAGE, target=1, perms=READ)) == "#NPF rmpadjust-gpa"


def adjust_immutable(b: Bench) -> None:
    b.assign()
    b.rmp.rmpupdate(A, assigned=True, asid=b.one.asid, gpa=GPA, immutable=True)
    assert fault(lambda: b.one.rmpadjust(GPA, target=1, perms=READ)) == "#NPF rmpadjust-immutable"


def adjust_validated(b: Bench) -> None:
    b.assign(accept=False)
    assert fault(lambda: b.one.rmpadjust(GPA, target=1, perms=0)) == "#VC rmpadjust-validated"


def adjust_size(b: Bench) -> None:
    b.assign(BIG, large=True)
    assert b.one.rmpadjust(GPA, target=1, perms=READ) == 6
    assert b.one.rmpadjust(GPA, target=1, perms=READ, large=True) == 0


def adjust_own_rights(b: Bench) -> None:
    b.assign()
    b.one.rmpadjust(GPA, target=1, perms=READ)
    assert b.one.rmpadjust(GPA, target=2, perms=FULL, vmpl=1) == 2
    assert b.one.rmpadjust(GPA, target=2, perms=READ, vmpl=1) == 0


def adjust_vmsa(b: Bench) -> None:
    b.assign()
    b.one.rmpadjust(GPA, target=1, perms=FULL)
    assert b.one.rmpadjust(GPA, target=2, perms=READ, vmpl=1, vmsa=True) == 2


def smash_aligned(b: Bench) -> None:
    b.assign(BIG, large=True)
    head = b.rmp.raw(BIG)
    b.rmp.store(BIG + PAGE, RmpEntry(assigned=True, large=True, asid=1), "test")  # no instruction could make this
    assert b.rmp.psmash(BIG + PAGE) == 1
    assert b.rmp.raw(BIG).state is head.state


def smash_large(b: Bench) -> None:
    b.assign(BIG)
    assert b.rmp.psmash(BIG) == 1


def smash_immutable(b: Bench) -> None:
    b.assign(BIG, large=True, accept=False, immutable=True)
    assert b.rmp.psmash(BIG) == 2


VECTORS: dict[str, Callable[[Bench], None]] = {
    "rmp-host-write-assigned": host_write_assigned,
    "rmp-host-write-size": host_write_size,
    "rmp-assigned": assigned,
    "rmp-asid": asid,
    "rmp-size": size,
    "rmp-gpa": gpa,
    "rmp-immutable": immutable,
    "rmp-validated": validated,
    "rmp-vmsa-write": vmsa_write,
    "rmp-vmpl": vmpl,
    "rmp-shared-write-assigned": shared_write_assigned,
    "rmpupdate-input": update_input,
    "rmpupdate-gpa-aligned": update_gpa_aligned,
    "rmpupdate-aligned": update_aligned,
    "rmpupdate-state": update_state,
    "rmpupdate-gpa": update_gpa,
    "rmpupdate-immutable": update_immutable,
    "rmpupdate-overlap-large": update_overlap_large,
    "rmpupdate-overlap-small": update_overlap_small,
    "pvalidate-vmpl": pvalidate_vmpl,
    "pvalidate-aligned": pvalidate_aligned,
    "pvalidate-assigned": pvalidate_assigned,
    "pvalidate-asid": pvalidate_asid,
    "pvalidate-gpa": pvalidate_gpa,
    "pvalidate-immutable": pvalidate_immutable,
    "pvalidate-size": pvalidate_size,
    "pvalidate-smash": pvalidate_smash,
    "rmpadjust-input": adjust_input,
    "rmpadjust-aligned": adjust_aligned,
    "rmpadjust-target": adjust_target,
    "rmpadjust-assigned": adjust_assigned,
    "rmpadjust-asid": adjust_asid,
    "rmpadjust-gpa": adjust_gpa,
    "rmpadjust-immutable": adjust_immutable,
    "rmpadjust-validated": adjust_validated,
    "rmpadjust-size": adjust_size,
    "rmpadjust-own-rights": adjust_own_rights,
    "rmpadjust-vmsa": adjust_vmsa,
    "psmash-aligned": smash_aligned,
    "psmash-large": smash_large,
    "psmash-immutable": smash_immutable,
}


def test_every_check_has_a_vector_and_a_source() -> None:
    assert set(VECTORS) == set(ALL_CHECKS)
    assert len(ALL_CHECKS) == len(set(ALL_CHECKS))
    assert all(check.source for checks in STAGES.values() for check in checks)


@pytest.mark.parametrize("name", ALL_CHECKS)
def test_the_check_refuses(name: str) -> None:
    VECTORS[name](Bench())


@pytest.mark.parametrize("name", ALL_CHECKS)
def test_without_the_check_its_vector_fails(name: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        VECTORS[name](Bench(frozenset({name})))


@pytest.mark.parametrize("name", ["rmp-host-write-assigned", "rmp-gpa", "rmp-validated"])
def test_without_the_check_an_attack_of_the_matrix_gets_through(name: str) -> None:
    """What the matrix rests on: take the check away and a cell is no longer as expected."""
    cells = [
        in_model(attack, mode, mitigated, disabled_checks=frozenset({name})).run
        for attack in discover().values()
        for mode, mitigated in COLUMNS
        if mode is Mode.SEV_SNP
    ]
    assert any(not cell.as_expected for cell in cells)


@pytest.mark.parametrize(
    "name",
    [
        "rmp-host-write-assigned",
        "rmp-shared-write-assigned",
        "rmp-gpa",
        "rmpupdate-state",
        "rmpupdate-immutable",
        "pvalidate-immutable",
    ],
)
def test_without_the_check_a_random_history_breaks_a_law(name: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        _many_histories(frozenset({name}))


def _many_histories(disabled: frozenset[str]) -> None:
    for seed in range(40):
        drive(World(seed, disabled), seed, 250)


# --- states and large pages


def test_the_table_of_states_is_complete() -> None:
    """Every combination of the four fields is either a state or refused by RMPUPDATE; both ways round."""
    seen: set[PageState | None] = set()
    for fields, state in STATES.items():
        is_assigned, is_validated, owned, is_immutable = fields
        entry = RmpEntry(is_assigned, immutable=is_immutable, asid=int(owned), validated=is_validated)
        assert entry.state is state
        seen.add(entry.state)
    seen.add(RmpEntry(assigned=True, immutable=True, vmsa=True).state)
    seen.add(RmpEntry(assigned=True, immutable=True, gpa=PAGE).state)
    assert seen == set(PageState) - {PageState.DEFAULT}
    assert Bench().rmp.state(1 << 40) is PageState.DEFAULT
    assert RmpEntry(asid=3).state is None


def test_a_large_page_is_one_page_until_it_is_smashed() -> None:
    b = Bench()
    b.assign(BIG, large=True)
    b.one.write(GPA + 3 * PAGE, b"kept over the smash.....")
    assert b.rmp.pages_of(b.one.asid) >= 512
    before = b.rmp.pages_of(b.one.asid)
    assert b.rmp.psmash(BIG) == 0
    assert b.one.read(GPA + 3 * PAGE, 24) == b"kept over the smash....."
    assert b.rmp.pages_of(b.one.asid) == before
    assert b.rmp.rmpupdate(BIG + 3 * PAGE, assigned=False) == 0
    assert fault(lambda: b.one.read(GPA + 3 * PAGE, 1)) == "#NPF rmp-assigned"
    assert b.one.read(GPA + 2 * PAGE, 1) is not None
    assert b.rmp.pages_of(b.one.asid) == before - 1


def test_validation_is_lost_when_anything_but_immutable_changes() -> None:
    b = Bench()
    b.assign()
    same: dict[str, Any] = {"assigned": True, "asid": b.one.asid, "gpa": GPA}
    assert b.rmp.rmpupdate(A, **same) == 0
    assert b.rmp.state(A) is PageState.GUEST_VALID
    assert b.rmp.rmpupdate(A, **{**same, "gpa": GPA + PAGE}) == 0
    assert b.rmp.state(A) is PageState.GUEST_INVALID


def test_a_smashed_page_is_not_joined_again_while_its_parts_are_assigned() -> None:
    b = Bench()
    b.assign(BIG, large=True)
    assert b.rmp.psmash(BIG) == 0
    assert b.rmp.rmpupdate(BIG, assigned=True, asid=b.one.asid, gpa=GPA, large=True) == 4
    assert fault(lambda: b.platform.host_write(BIG, b"x", mapping_large=True)) == "#PF(RMP) rmp-host-write-assigned"
    assert b.rmp.rmpupdate(BIG, assigned=False) == 0
    assert fault(lambda: b.platform.host_write(BIG, b"x", mapping_large=True)) == "#PF(RMP) rmp-host-write-size"


def test_a_large_page_is_taken_at_its_own_guest_address_alone() -> None:
    b = Bench()
    b.assign(BIG, large=True, accept=False)
    other = GPA + 512 * PAGE
    b.one.remap(other, BIG)
    assert fault(lambda: b.one.pvalidate(other, large=True)) == "#NPF pvalidate-gpa"
    b.one.accept(GPA, large=True)
    assert fault(lambda: b.one.rmpadjust(other, target=1, perms=READ, large=True)) == "#NPF rmpadjust-gpa"
    b.one.remap(other + PAGE, BIG + PAGE, large=True)
    assert fault(lambda: b.one.read(other + PAGE, 1)) == "#NPF rmp-gpa"


def test_a_nested_mapping_that_is_not_writable() -> None:
    b = Bench()
    b.assign()
    b.one.npt.map(GPA, A, writable=False)
    b.one.flush_tlb()
    assert fault(lambda: b.one.read(GPA, 1)) == ""
    assert fault(lambda: b.one.write(GPA, b"x")) == "#NPF npt-writable"


def test_a_page_that_grows_is_not_valid() -> None:
    """Or the host could add 511 pages that the guest never accepted to one that it did."""
    b = Bench()
    b.assign(BIG)
    assert b.rmp.rmpupdate(BIG, assigned=True, asid=b.one.asid, gpa=GPA, large=True) == 0
    assert b.rmp.state(BIG + PAGE) is PageState.GUEST_INVALID
    assert fault(lambda: b.one.read(GPA, 1)) == "#VC rmp-validated"


@pytest.mark.parametrize("change", [{"asid": 1}, {"gpa": GPA + PAGE}])
def test_a_page_that_moves_is_not_valid(change: dict[str, int]) -> None:
    """Neither for another guest, nor under another guest address."""
    b = Bench()
    b.assign()
    owner = {"asid": b.one.asid, "gpa": GPA} | ({"asid": b.two.asid} if "asid" in change else change)
    assert b.rmp.rmpupdate(A, assigned=True, **owner) == 0
    assert b.rmp.state(A) is PageState.GUEST_INVALID
    assert b.rmp.raw(A).perms == [0, 0, 0, 0]


@pytest.mark.parametrize("perms", range(FULL + 1))
def test_each_right_of_a_vmpl_is_asked_for_by_its_own_access(perms: int) -> None:
    b = Bench()
    b.assign()
    assert b.one.rmpadjust(GPA, target=1, perms=FULL) == 0
    assert b.one.rmpadjust(GPA, target=2, perms=perms) == 0
    accesses: dict[int, Callable[[int], object]] = {
        READ: lambda vmpl: b.one.read(GPA, 1, vmpl=vmpl),
        WRITE: lambda vmpl: b.one.write(GPA, b"x", vmpl=vmpl),
        EXECUTE_SUPERVISOR: lambda vmpl: b.one.read(GPA, 1, vmpl=vmpl, execute=True),
    }
    for right, access in accesses.items():
        for vmpl in (0, 1):  # what these may do is in the TLB, and says nothing of VMPL2
            assert fault(partial(access, vmpl)) == ""
        assert fault(partial(access, 2)) == ("" if perms & right else "#NPF rmp-vmpl")
        assert fault(partial(access, 3)) == "#NPF rmp-vmpl"


def test_rights_are_taken_away_as_they_are_given_and_end_with_validation() -> None:
    b = Bench()
    b.assign()
    b.one.rmpadjust(GPA, target=1, perms=FULL)
    b.one.rmpadjust(GPA, target=3, perms=READ)
    assert b.rmp.raw(A).perms == [FULL, FULL, 0, READ]
    assert fault(lambda: b.one.read(GPA, 1, vmpl=1)) == ""
    b.one.rmpadjust(GPA, target=1, perms=0)
    assert b.rmp.raw(A).perms == [FULL, 0, 0, READ]
    assert fault(lambda: b.one.read(GPA, 1, vmpl=1)) == "#NPF rmp-vmpl"
    b.one.rmpadjust(GPA, target=1, perms=FULL, vmsa=True)
    for validate in (False, True):
        assert b.one.pvalidate(GPA, validate=validate) == (0, False)
        entry = b.rmp.raw(A)
        assert (entry.perms, entry.vmsa) == ([FULL if validate else 0, 0, 0, 0], False)


def test_a_less_privileged_vmpl_leaves_a_save_area_one() -> None:
    b = Bench()
    b.assign()
    b.one.rmpadjust(GPA, target=1, perms=FULL, vmsa=True)
    assert b.one.rmpadjust(GPA, target=2, perms=READ, vmpl=1) == 0
    assert b.rmp.raw(A).vmsa


@pytest.mark.parametrize("mode", [Mode.NOSEV, Mode.SEV])
def test_guests_without_snp_write_no_assigned_page(mode: Mode) -> None:
    b = Bench()
    b.assign()
    other = b.platform.attach(mode, 0)
    other.remap(GPA, A)
    for private in (False, True):
        assert fault(partial(other.write, GPA, b"x", private=private)) == "#NPF rmp-shared-write-assigned"
    other.remap(GPA, B)
    assert fault(lambda: other.write(GPA, b"x")) == ""


@pytest.mark.parametrize(
    "wrong", [{"vmsa": False}, {"validated": False}, {"assigned": False}, {"asid": 2}, {"asid": 3}]
)
def test_vmrun_takes_only_a_save_area_of_the_guest(wrong: dict[str, Any]) -> None:
    platform = Platform(PlatformConfig(memory=64 << 20))
    guest = launch(platform, Mode.SEV_SNP, pages=1)
    assert platform.rmp is not None
    assert guest.vmsa_spa is not None
    assert Vcpu(guest).run(0).reason == "INTR"
    platform.rmp.store(guest.vmsa_spa, replace(platform.rmp.raw(guest.vmsa_spa), **wrong), "test")
    assert Vcpu(guest).run(0).check == "rmp-vmsa"


def test_the_pages_of_the_table_are_the_firmwares() -> None:
    b = Bench()
    assert b.rmp.state(b.rmp.base) is PageState.FIRMWARE
    assert b.rmp.rmpupdate(b.rmp.base, assigned=False) == 2
    assert fault(lambda: b.platform.host_write(b.rmp.base, b"x")) == "#PF(RMP) rmp-host-write-assigned"


def test_changes_of_the_table_reach_cached_translations() -> None:
    b = Bench()
    b.assign()
    b.one.read(GPA, 1)
    b.rmp.rmpupdate(A, assigned=False)
    assert fault(lambda: b.one.read(GPA, 1)) == "#NPF rmp-assigned"


def test_a_stale_translation_stays_until_it_is_flushed() -> None:
    platform = Platform(PlatformConfig(snp=False, memory=16 << 20))
    vm = launch(platform, Mode.SEV, pages=2).vm
    vm.write(0, b"old page........")
    vm.write(PAGE, b"new page........")
    assert vm.read(0, 16) == b"old page........"
    vm.remap(0, vm.npt.spa(PAGE), flush=False)
    assert vm.read(0, 16) == b"old page........"
    vm.flush_tlb()
    assert vm.read(0, 16) == b"new page........"


def test_ciphertext_hiding_answers_zeros() -> None:
    platform = Platform(PlatformConfig(memory=64 << 20, ciphertext_hiding=True))
    guest = launch(platform, Mode.SEV_SNP, pages=2)
    guest.vm.write(0, b"x" * 64)
    assert platform.host_read(guest.spa(0), 64) == bytes(64)
    assert guest.vm.read(0, 64) == b"x" * 64
    assert guest.vm.asid <= platform.config.max_snp_asid


def test_register_protection_is_undone_by_its_own() -> None:
    page = vmsa.pack({"rip": 0x1234, "rax": 5, "r15": 7, "cr3": 9})
    sealed = vmsa.protect(page, b"nonce..1")
    assert sealed != page
    assert vmsa.unprotect(sealed) == page
