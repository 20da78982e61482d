"""The launch digest of the engine equals sev-snp-measure's, for launches of all kinds: QEMU is started, not the guest.

``SEVKIT_TEST_DIGESTS=100 pytest tests/integration/test_emulator_digest.py`` is the long form.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from sevsnpmeasure import guest as reference
from sevsnpmeasure import vcpu_types
from sevsnpmeasure.sev_mode import SevMode

from sevkit.attestation.measure import qemu_line
from sevkit.errors import SevkitError
from sevkit.guest import image
from sevkit.model.digest import launch_digest
from sevkit.vocabulary import Mode
from tests.support.es_digest import DEBUG_SWAP, es_digest
from tests.support.firmware_image import SECTIONS, firmware_image

from .emulator_guest import engine
from .snp_machine import Machine

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

LAUNCHES = int(os.environ.get("SEVKIT_TEST_DIGESTS", "12"))
MODES = {Mode.SEV: SevMode.SEV, Mode.SEV_ES: SevMode.SEV_ES, Mode.SEV_SNP: SevMode.SEV_SNP}
CPUS = sorted(set(vcpu_types.CPU_SIGS) - {"EPYC-Turin"})  # QEMU 10.0 does not have that one


@dataclass(frozen=True)
class Launch:
    """All that a launch digest depends on, and what it must not depend on."""

    mode: Mode
    firmware: bytes
    cpu: str
    vcpus: int
    policy: int
    debug_swap: bool  # SEV-ES and SEV-SNP
    command_line: str | None  # with the hashes of a kernel, an initrd and this; None: without
    private_memory: str

    @property
    def options(self) -> str:
        """For the object that encrypts."""
        found = f",policy={self.policy:#x}" + (",kernel-hashes=on" if self.command_line is not None else "")
        if self.mode is not Mode.SEV:
            found += f",debug-swap={'on' if self.debug_swap else 'off'}"
        return found + (f",private-memory={self.private_memory}" if self.mode is Mode.SEV_SNP else "")


def launch(number: int) -> Launch:
    """The launch with a number: drawn, always the same one."""
    draw = random.Random(number)  # noqa: S311 - test data
    mode = list(MODES)[number % len(MODES)]
    sections = draw.sample(SECTIONS, len(SECTIONS))
    return Launch(
        mode,
        firmware_image(draw.randbytes(300), sections, reset=0x80B004 + 16 * draw.randrange(8)),
        draw.choice(CPUS),
        draw.randint(1, 8),
        draw.choice((0x30000, 0xB0000, 0x30033)) if mode is Mode.SEV_SNP else 5 if mode is Mode.SEV_ES else 1,
        draw.random() < 0.5 and mode is not Mode.SEV,
        draw.choice((None, "", "console=ttyS0 quiet")),
        draw.choice(("ciphertext", "hole")),
    )


@pytest.fixture(scope="module")
def binary() -> Path:
    return engine()


@pytest.fixture(scope="module")
def kernel() -> Path:
    try:
        found = image.get("mini").kernel
    except SevkitError as error:
        pytest.skip(f"the mini image cannot be built: {error.message}")
    assert found is not None
    return found


@pytest.mark.parametrize("number", range(LAUNCHES))
def test_the_digest_equals_sev_snp_measure(binary: Path, kernel: Path, tmp_path: Path, number: int) -> None:
    chosen = launch(number)
    firmware, initrd = tmp_path / "firmware", tmp_path / "initrd"
    firmware.write_bytes(chosen.firmware)
    initrd.write_bytes(bytes([number]) * 5000)
    extra, files = ["-S"], ["", "", ""]
    if chosen.command_line is not None:
        files = [str(kernel), str(initrd), chosen.command_line]
        extra += ["-kernel", files[0], "-initrd", files[1], "-append", files[2]]
    kind = "sev-snp-tcg-guest" if chosen.mode is Mode.SEV_SNP else "sev-tcg-guest"
    machine = Machine(
        binary,
        firmware,
        tmp_path,
        kind=kind,
        options=chosen.options,
        vcpus=chosen.vcpus,
        cpu=chosen.cpu,
        extra=extra,
    )
    try:
        measured = machine.read("launch-digest")
    finally:
        machine.stop()
    assert measured == theirs(chosen, firmware, files).hex()
    assert measured == ours(machine.command)


def theirs(chosen: Launch, firmware: Path, files: list[str]) -> bytes:
    """What sev-snp-measure says."""
    features, signature = DEBUG_SWAP if chosen.debug_swap else 0, vcpu_types.CPU_SIGS[chosen.cpu]
    if chosen.mode is Mode.SEV_ES:
        return es_digest(chosen.vcpus, signature, str(firmware), (files[0], files[1], files[2]), features)
    digest: bytes = reference.calc_launch_digest(
        MODES[chosen.mode], chosen.vcpus, signature, str(firmware), *files, 1 | features
    )
    return digest


def ours(command: list[str]) -> str:
    """What `sevkit measure --launch` says of the command line."""
    return launch_digest(qemu_line.launch_of(command, lambda name: Path(name).read_bytes())).hex()


@pytest.mark.parametrize(("kind", "policy"), [("sev-snp-tcg-guest", 0x30000), ("sev-tcg-guest", 1)])
def test_hashes_without_a_place_for_them_are_refused(
    binary: Path, kernel: Path, tmp_path: Path, kind: str, policy: int
) -> None:
    firmware = tmp_path / "firmware"
    firmware.write_bytes(firmware_image(b"", SECTIONS[:4], hashes=0))
    options = f",policy={policy:#x},kernel-hashes=on"
    machine = Machine(binary, firmware, tmp_path, kind=kind, options=options, extra=["-S", "-kernel", str(kernel)])
    try:
        machine.wait_end()
    finally:
        machine.stop()
    assert machine.process.returncode == 1
    assert "no place for the hashes" in machine.log()
