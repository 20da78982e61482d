"""Launch a guest as each mode prescribes: the steps of a correct host and of the firmware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sevkit.model import vmsa
from sevkit.model.cipher import PAGE
from sevkit.model.measure import VMSA_GPA, PageType
from sevkit.model.platform import Platform
from sevkit.model.psp_sev import ES
from sevkit.model.snp_commands import SnpPlatformState
from sevkit.model.vm import Vm
from sevkit.vocabulary import MODE_FACTS, Mode


@dataclass
class Launched:
    """A guest that is ready to run: its machine, its firmware handle, its save areas, its launch measurement.

    ``vmsa_spa`` is the save area of the vCPU that runs, ``vmsa_spas`` those of all.
    """

    platform: Platform
    vm: Vm
    handle: int = 0
    vmsa_spa: int | None = None
    vmsa_spas: list[int] = field(default_factory=list)
    digest: bytes = b""
    shared: frozenset[int] = field(default_factory=frozenset)

    def spa(self, gpa: int) -> int:
        """Return the system physical address of a guest address, as the host knows it."""
        return self.vm.npt.spa(gpa)

    def vcpu(self, number: int) -> "Launched":
        """The guest as one of its vCPUs has it."""
        return replace(self, vmsa_spa=self.vmsa_spas[number])


def default_policy(mode: Mode) -> int:
    """A policy that suits the mode: no debugging, no key sharing."""
    return MODE_FACTS[mode].policy or 0


def free_asid(platform: Platform, mode: Mode) -> int:
    """Return the first free ASID that this mode may use."""
    config = platform.config
    first, last = (config.min_sev_asid, config.max_asid) if mode is Mode.SEV else (1, config.min_sev_asid - 1)
    used = platform.controller.keys.keys() | platform.dirty_asids | {vm.asid for vm in platform.vms.values()}
    for asid in range(first, last + 1):
        if asid not in used:
            return asid
    raise MemoryError(f"no free ASID for {mode}")


def launch(
    platform: Platform,
    mode: Mode,
    *,
    contents: Mapping[int, bytes] | None = None,
    pages: int = 16,
    shared: Sequence[int] = (),
    registers: Mapping[str, int] | None = None,
    more_vcpus: Sequence[Mapping[str, int]] = (),
    policy: int | None = None,
) -> Launched:
    """Launch a guest of ``pages`` pages from guest address 0.

    ``contents`` are launch pages by guest address (encrypted and measured); ``shared`` are addresses of pages that the
    guest uses with the C-bit clear; the rest of a SNP guest's memory is assigned to it, and validated when it accepts.
    ``registers`` is the state of the first vCPU, ``more_vcpus`` those of the others.
    """
    vm = platform.attach(mode, free_asid(platform, mode) if mode is not Mode.NOSEV else 0)
    launched = Launched(platform, vm, shared=frozenset(gpa // PAGE * PAGE for gpa in shared))
    for page in range(pages):
        vm.npt.map(page * PAGE, platform.allocate())
    states = [vmsa.pack(dict(state)) for state in (registers or {}, *more_vcpus)]
    policy = default_policy(mode) if policy is None else policy
    starter = {Mode.NOSEV: _launch_plain, Mode.SEV: _launch_sev, Mode.SEV_ES: _launch_sev, Mode.SEV_SNP: _launch_snp}
    starter[mode](launched, dict(contents or {}), states, policy)
    launched.vmsa_spa = launched.vmsa_spas[0]
    return launched


def _launch_plain(launched: Launched, contents: dict[int, bytes], states: list[bytes], policy: int) -> None:
    del policy
    for gpa, data in contents.items():
        launched.platform.host_write(launched.spa(gpa), data)
    _host_states(launched, states)


def _launch_sev(launched: Launched, contents: dict[int, bytes], states: list[bytes], policy: int) -> None:
    platform, vm = launched.platform, launched.vm
    firmware = platform.sev
    if firmware.state == "UNINIT":
        firmware.init()
    launched.handle = firmware.launch_start(policy)
    firmware.activate(launched.handle, vm.asid)
    for gpa, data in contents.items():
        platform.host_write(launched.spa(gpa), data.ljust(PAGE, b"\0"))
        platform.host_wbinvd()  # the firmware reads DRAM, not the caches of the cores
        firmware.launch_update_data(launched.handle, launched.spa(gpa), PAGE)
    _host_states(launched, states)
    if policy & ES:
        platform.host_wbinvd()
        for spa in launched.vmsa_spas:
            firmware.launch_update_vmsa(launched.handle, spa)
    launched.digest, _ = firmware.launch_measure(launched.handle)
    firmware.launch_finish(launched.handle)


def _launch_snp(launched: Launched, contents: dict[int, bytes], states: list[bytes], policy: int) -> None:
    platform, vm = launched.platform, launched.vm
    firmware, rmp = platform.snp, platform.rmp
    assert rmp is not None
    if firmware.state is SnpPlatformState.UNINIT:
        firmware.init()
    context = platform.allocate()
    rmp.rmpupdate(context, assigned=True, immutable=True)
    launched.handle = firmware.gctx_create(context)
    firmware.launch_start(launched.handle, policy)
    firmware.activate(launched.handle, vm.asid)
    for gpa, data in contents.items():
        platform.host_write(launched.spa(gpa), data.ljust(PAGE, b"\0"))
        platform.host_wbinvd()
        rmp.rmpupdate(launched.spa(gpa), assigned=True, asid=vm.asid, gpa=gpa, immutable=True)
        firmware.launch_update(launched.handle, launched.spa(gpa))
        vm.validated.add(gpa // PAGE)
    _host_states(launched, states)
    platform.host_wbinvd()
    for spa in launched.vmsa_spas:
        rmp.rmpupdate(spa, assigned=True, asid=vm.asid, gpa=VMSA_GPA, immutable=True)
        firmware.launch_update(launched.handle, spa, PageType.VMSA)
    firmware.launch_finish(launched.handle)
    launched.digest = firmware.contexts[launched.handle].digest.value
    _assign_rest(launched, contents)


def _assign_rest(launched: Launched, contents: Mapping[int, bytes]) -> None:
    """Assign the rest of the guest's private pages to it, and let the guest validate each page once."""
    rmp, vm = launched.platform.rmp, launched.vm
    assert rmp is not None
    for page in list(vm.npt.pages):
        gpa = page * PAGE
        if gpa not in contents and gpa not in launched.shared:
            rmp.rmpupdate(launched.spa(gpa), assigned=True, asid=vm.asid, gpa=gpa)
            vm.accept(gpa)


def _host_states(launched: Launched, states: Sequence[bytes]) -> None:
    """Write each vCPU's registers into a page of the host's: the VMCB, or what becomes the VMSA."""
    for state in states:
        launched.vmsa_spas.append(launched.platform.allocate())
        launched.platform.host_write(launched.vmsa_spas[-1], state)
