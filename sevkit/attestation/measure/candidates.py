"""Compute digests of candidates; prefixes of the hash chain are computed once and shared. Pure.

A launch digest is a chain: firmware, metadata pages, save areas. Candidates that differ only in a later part share the
digest of the earlier parts, and one pass over the save areas gives the digest for every number of vCPUs.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sevkit.attestation.measure.alternatives import Quirk
from sevkit.errors import BadInputError
from sevkit.model import ovmf as ovmf_format
from sevkit.model import vmsa
from sevkit.model.digest import LaunchInputs, Svsm, firmware_run, metadata_runs, start_of
from sevkit.model.kernel_hashes import Kernel, KernelHashes
from sevkit.model.measure import PageRun, PageType, fold, page_info_end, vmsa_digest
from sevkit.model.ovmf import FOUR_GIB, Ovmf, SectionType
from sevkit.vocabulary import Mode

_OF_KERNEL = frozenset({"kernel", "initrd", "append"})
Choice = Mapping[str, Any]  # the changed inputs: name of the dimension -> value


@dataclass(frozen=True)
class Prefix:
    """Everything before the save areas: the digest so far, and the entry points of the vCPUs."""

    value: Any  # bytes for SNP, a SHA-256 object otherwise
    first_entry: int
    other_entry: int | None


class Candidates:
    """Digests of candidates around given inputs."""

    def __init__(self, inputs: LaunchInputs) -> None:
        self.inputs = inputs
        self._given = inputs.kernel.hashes() if isinstance(inputs.kernel, Kernel) else None
        self._memo: dict[Any, Any] = {}

    def digests(self, choice: Choice, counts: range) -> Iterator[tuple[int, bytes]]:
        """(number of vCPUs, digest) for each number up to the end of ``counts``; nothing for impossible candidates.

        The number 0 stands for the digest without any save area.
        """
        try:
            prefix = self._prefix(choice)
            first, other = self._areas(choice, prefix)
        except BadInputError:
            return
        if self.inputs.mode is not Mode.SEV_SNP:
            yield from self._legacy_walk(prefix, first, other, counts)
            return
        # Each vCPU adds one link to the chain, so one pass over the save areas gives the digest for every count.
        end, sha384 = page_info_end(PageType.VMSA, self._quirk(choice).gpa), hashlib.sha384
        value = prefix.value
        for number in range(1, counts.stop):
            area = first if number == 1 else other
            if area is None:
                return
            value = sha384(value + area + end).digest()
            if number >= counts.start:
                yield number, value

    def _legacy_walk(
        self, prefix: Prefix, first: bytes | None, other: bytes | None, counts: range
    ) -> Iterator[tuple[int, bytes]]:
        digest = prefix.value.copy()
        yield 0, digest.digest()
        for number in range(1, counts.stop):
            area = first if number == 1 else other
            if area is None or self.inputs.mode is Mode.SEV:
                return
            digest.update(area)
            yield number, digest.digest()

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._memo:
            try:
                self._memo[key] = make()
            except BadInputError as error:
                self._memo[key] = error
        found = self._memo[key]
        if isinstance(found, BadInputError):
            raise found
        return found

    def _prefix(self, choice: Choice) -> Prefix:
        vmm = choice.get("vmm", self.inputs.vmm)
        order = choice.get("page order", "vmm")
        hashes = self._hashes(choice)
        firmware = choice.get("ovmf", self.inputs.firmware)
        key = ("prefix", id(firmware), hashes, order, vmm if self.inputs.mode is Mode.SEV_SNP else None)
        found = self._once(key, lambda: self._make_prefix(firmware, hashes, order, vmm))
        assert isinstance(found, Prefix)
        return found

    def _make_prefix(self, data: bytes, hashes: KernelHashes | None, order: str, vmm: str) -> Prefix:
        firmware = self._once(("ovmf", id(data)), lambda: ovmf_format.parse(data))
        inputs = replace(self.inputs, firmware=data, kernel=hashes, vmm=vmm)
        if inputs.mode is not Mode.SEV_SNP:
            return _legacy_prefix(inputs, firmware)
        module, entry = firmware, firmware.pointer(ovmf_format.RESET_BLOCK)
        first_entry = vmsa.BSP_EIP
        value = self._once(("pages", id(data)), lambda: _image_digest(inputs, firmware))
        if inputs.svsm is not None:
            module = _svsm(firmware, inputs.svsm)
            first_entry = entry = module.gpa + (module.pointer(ovmf_format.SVSM_INFO) or 0)
        runs = _ordered(metadata_runs(inputs, module), order)
        return Prefix(fold(value, runs), first_entry, entry)

    def _hashes(self, choice: Choice) -> KernelHashes | None:
        kernel = self.inputs.kernel
        if not isinstance(kernel, Kernel):
            return kernel
        if choice.keys().isdisjoint(_OF_KERNEL):
            return self._given
        image = choice.get("kernel", kernel.kernel)
        if image is None:
            return None
        line = choice.get("append", kernel.line())
        return KernelHashes(self._sha256(image), self._sha256(choice.get("initrd", kernel.initrd)), self._sha256(line))

    def _sha256(self, data: bytes) -> bytes:
        found = self._once(("sha256", data if len(data) < 4096 else id(data)), lambda: hashlib.sha256(data).digest())
        assert isinstance(found, bytes)
        return found

    def _quirk(self, choice: Choice) -> Quirk:
        quirk = choice.get("vmsa", _NO_QUIRK)
        assert isinstance(quirk, Quirk)
        return quirk

    def _areas(self, choice: Choice, prefix: Prefix) -> tuple[bytes | None, bytes | None]:
        """What the first and each further vCPU add: digests of save areas (SNP), or the areas themselves."""
        quirk = self._quirk(choice)
        signature = choice.get("vcpu-type", self.inputs.signature)
        features = choice.get("guest-features", self.inputs.sev_features)
        vmm = choice.get("vmm", self.inputs.vmm)

        def area(entry: int) -> bytes:
            key = ("area", entry, signature, features, vmm, quirk.registers)
            return self._once(key, lambda: self._area(entry, signature, features, vmm, quirk))  # type: ignore[no-any-return]

        first, other = prefix.first_entry, prefix.other_entry
        if quirk.first_is_ap and other is not None:
            first = other
        if quirk.all_alike:
            other = first
        return area(first), area(other) if other is not None else None

    def _area(self, entry: int, signature: int, features: int, vmm: str, quirk: Quirk) -> bytes:
        """A save area: that of its VMM and entry point, overwritten with the values that differ between candidates."""
        page = self._once(("page", entry, vmm), lambda: self._page(entry, vmm))
        changes: tuple[tuple[str, int], ...] = (("sev_features", features),)
        if vmsa.RESET_STATES[vmm].rdx is None:
            changes = (*changes, ("rdx", signature))
        page = _with(page, (*changes, *quirk.registers))
        return vmsa_digest(page) if self.inputs.mode is Mode.SEV_SNP else page

    def _page(self, entry: int, vmm: str) -> bytes:
        if self.inputs.svsm is not None:
            return vmsa.svsm_page(entry, fcw=self.inputs.svsm.fcw)
        return vmsa.reset_page(entry, vmm=vmm)


_NO_QUIRK = Quirk()


def _with(page: bytes, registers: tuple[tuple[str, int], ...]) -> bytes:
    changed = bytearray(page)
    for name, value in registers:
        offset, size = vmsa.FIELDS[name]
        changed[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(changed)


def _legacy_prefix(inputs: LaunchInputs, firmware: Ovmf) -> Prefix:
    digest = hashlib.sha256(firmware.data)
    if inputs.kernel is not None:
        if not firmware.pointer(ovmf_format.HASH_TABLE):
            raise BadInputError("the firmware has no place for hashes")
        digest.update(inputs.kernel.table())
    return Prefix(digest, vmsa.BSP_EIP, firmware.pointer(ovmf_format.RESET_BLOCK))


def _image_digest(inputs: LaunchInputs, firmware: Ovmf) -> bytes:
    if inputs.firmware_digest:
        return start_of(inputs)
    value = fold(start_of(inputs), [firmware_run("firmware", firmware)])
    if inputs.svsm is not None:
        value = fold(value, [firmware_run("svsm", _svsm(firmware, inputs.svsm))])
    return value


def _svsm(firmware: Ovmf, svsm: Svsm) -> Ovmf:
    module = ovmf_format.parse(svsm.data, end=min(FOUR_GIB, firmware.gpa - svsm.vars_size))
    if module.pointer(ovmf_format.SVSM_INFO) is None:
        raise BadInputError("the SVSM image names no entry point")
    return module


def _ordered(runs: Iterator[PageRun], order: str) -> list[PageRun]:
    """The metadata's pages in the order of some tool or VMM."""
    listed = list(runs)
    hashes, caa, memory = (kind.name for kind in (SectionType.KERNEL_HASHES, SectionType.SVSM_CAA, SectionType.SEC_MEM))
    if order == "none":
        return []
    if order in {"by-gpa", "by-gpa-down"}:
        return sorted(listed, key=lambda run: run.gpa, reverse=order == "by-gpa-down")
    if order in {"no-caa", "no-sec-mem"}:
        return [run for run in listed if run.what != (caa if order == "no-caa" else memory)]
    if order == "sec-mem-unmeasured":
        return [run._replace(kind=PageType.UNMEASURED) if run.what == memory else run for run in listed]
    last = {"cpuid-last": SectionType.CPUID.name, "hashes-last": hashes}.get(order)
    if last is not None:
        return sorted(listed, key=lambda run: run.what == last)
    return sorted(listed, key=lambda run: run.what != hashes) if order == "hashes-first" else listed
