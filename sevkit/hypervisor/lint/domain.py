"""libvirt domains (formatdomain) as launches. Pure."""

from dataclasses import replace
from xml.etree import ElementTree as ET

from sevkit.errors import BadInputError
from sevkit.hypervisor.lint import command_line
from sevkit.hypervisor.lint.model import Launch, Part

_VIRTIO = {
    "disk": "virtio-blk-pci", "interface": "virtio-net-pci", "rng": "virtio-rng-pci", "controller": "virtio-pci",
    "memballoon": "virtio-balloon-pci", "filesystem": "virtio-fs-pci", "video": "virtio-gpu-pci",
    "input": "virtio-input-pci",
}  # fmt: skip
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_SEV = {"sev": "sev-guest", "sev-snp": "sev-snp-guest"}
_NAMES = {"cbitpos": "cbitpos", "reducedPhysBits": "reduced-phys-bits", "policy": "policy", "session": "session-file"}


def launch(text: str, origin: str) -> Launch:
    """The launch that a domain describes; raises BadInputError if the text is not a domain."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInputError(f"{origin}: XML with declarations of its own is not read")
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities are refused above
    except ET.ParseError as error:
        raise BadInputError(f"{origin}: damaged XML: {error}", hint="virsh dumpxml NAME > FILE") from error
    domain = root if root.tag == "domain" else root.find(".//domain")
    if domain is None:
        raise BadInputError(f"{origin}: XML, but no libvirt domain", hint="virsh dumpxml NAME > FILE")
    return _with_arguments(_launch(domain, origin), domain, origin)


def _with_arguments(found: Launch, domain: ET.Element, origin: str) -> Launch:
    """Add the arguments for QEMU that a domain carries through (qemu:commandline)."""
    argv = [argument.get("value") or "" for argument in domain.findall(f"{_QEMU}commandline/{_QEMU}arg")]
    if not argv:
        return found
    more = command_line.launch(argv, origin)
    return replace(
        found,
        machine={**found.machine, **more.machine},
        cpu=more.cpu or found.cpu,
        objects=found.objects + more.objects,
        devices=found.devices + more.devices,
        drives=found.drives + more.drives,
        bios=more.bios or found.bios,
        kernel=more.kernel or found.kernel,
    )


def _launch(domain: ET.Element, origin: str) -> Launch:
    machine = {"type": _attribute(domain, "os/type", "machine")}
    smm = _attribute(domain, "features/smm", "state")
    if smm:
        machine["smm"] = smm
    security = domain.find("launchSecurity")
    objects = list(_memory(domain))
    if security is not None and security.get("type") in _SEV:
        objects.append(_security(security))
        machine["confidential-guest-support"] = "lsec0"
    loader = domain.find("os/loader")
    flash = loader is not None and loader.get("type") == "pflash"
    variables = domain.find("os/nvram")
    files = [(part.text or "").strip() for part in (loader, variables) if part is not None] if flash else []
    return Launch(
        origin,
        machine,
        "kvm" if domain.get("type") == "kvm" else "tcg",
        _cpu(domain),
        (domain.findtext("vcpu") or "").strip(),
        (domain.findtext("memory") or "").strip() + _attribute(domain, "memory", "unit"),
        tuple(objects),
        tuple(_devices(domain)),
        tuple(Part("drive", {"if": "pflash", "file": file}) for file in files),
        "" if flash or loader is None else (loader.text or "").strip(),
        (domain.findtext("os/kernel") or "").strip(),
        ("firmware chosen by libvirt",)
        if domain.find("os") is not None and domain.find("os[@firmware]") is not None
        else (),
    )


def _attribute(domain: ET.Element, path: str, name: str) -> str:
    found = domain.find(path)
    return (found.get(name) or "") if found is not None else ""


def _security(security: ET.Element) -> Part:
    options = {
        qemu: (security.findtext(name) or "").strip()
        for name, qemu in _NAMES.items()
        if security.find(name) is not None
    }
    hashes = security.get("kernelHashes")
    if hashes:
        options["kernel-hashes"] = "on" if hashes == "yes" else "off"
    filled = "chosen by libvirt"  # libvirt asks QEMU for values that the domain omits
    return Part(
        _SEV[security.get("type", "")], {"id": "lsec0", "cbitpos": filled, "reduced-phys-bits": filled} | options
    )


def _memory(domain: ET.Element) -> list[Part]:
    backing = domain.find("memoryBacking")
    if backing is None:
        return []
    kind = _attribute(domain, "memoryBacking/source", "type")
    share = _attribute(domain, "memoryBacking/access", "mode") == "shared"
    options = {"share": "on" if share else "off"} | ({"hugetlb": "on"} if backing.find("hugepages") is not None else {})
    names = {"memfd": "memory-backend-memfd", "file": "memory-backend-file"}
    return [Part(names.get(kind, "memory-backend-ram"), options)]


def _cpu(domain: ET.Element) -> str:
    mode = _attribute(domain, "cpu", "mode")
    return {"host-passthrough": "host", "maximum": "max"}.get(mode, (domain.findtext("cpu/model") or mode).strip())


def _devices(domain: ET.Element) -> list[Part]:
    found = []
    for device in domain.findall("devices/*"):
        driver = device.find("driver")
        words = " ".join(filter(None, (device.get("model"), device.get("type"), *(_inner(device)))))
        if device.tag in _VIRTIO and "virtio" in words:
            iommu = driver.get("iommu") if driver is not None else None
            options = {"iommu_platform": iommu} if iommu else {}
            found.append(Part(_VIRTIO[device.tag], options))
        elif device.tag == "hostdev":
            found.append(Part("vfio-pci"))
    return found


def _inner(device: ET.Element) -> list[str | None]:
    target, model = device.find("target"), device.find("model")
    return [
        target.get("bus") if target is not None else None,
        model.get("type") if model is not None else None,
        device.get("bus"),
    ]
