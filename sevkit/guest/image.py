"""Guest images: built from packages, cached by content, safe under parallel use."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sevkit import processes
from sevkit.errors import BadInputError, UsageError
from sevkit.guest import cloud, cpio, debian, media, rootdisk, study
from sevkit.paths import cache_dir, cache_path

Progress = Callable[[str], None]

_HASHED = 256 << 20  # bytes; larger files are identified by their size

_RECIPE = 3  # to be raised when the code below, or cpio.py, changes what comes out
# What the mini image loads at boot, in Linux' own module names; built-in ones are passed over.
MODULES = (
    *("virtio_pci", "virtio_console", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net", "virtio_rng"),
    *("nvme", "ext4", "msr", "cpuid"),
    # The attestation driver requests gcm(aes) by name, and busybox has no modprobe that the kernel could call.
    *("ghash_generic", "gcm", "ctr", "configfs", "tsm", "sev_guest"),
)
_USER_PACKAGES = (
    *("busybox-static", "dropbear-bin", "util-linux"),
    *("libtomcrypt1", "libtommath1", "libgmp10", "zlib1g", "libcrypt1", "libc6"),  # libraries of dropbear
    *("libblkid1", "libmount1", "libsmartcols1", "libudev1", "libselinux1", "libpcre2-8-0"),  # what lsblk links to
)
_BENCH_SIZE = "3G"  # sparse: unused parts take no space
_BENCH_PACKAGES = (
    *(
        "fio",
        "iperf3",
        "lz4",
        "mbw",
        "redis-server",
        "redis-tools",
        "sqlite3",
        "stress-ng",
        "sysbench",
        "zstd",
        "xz-utils",
    ),
    *(
        "bc",
        "gcc",
        "g++",
        "libc6-dev",
        "make",
        "flex",
        "bison",
        "libelf-dev",
        "libssl-dev",
        "perl-base",
        "python3-minimal",
    ),
    *("dropbear-bin", "iproute2", "nvme-cli", "procps", "psmisc", "systemd", "time", "util-linux"),
)
_PROGRAMS = ("usr/sbin/dropbear", "usr/bin/dropbearkey", "bin/lsblk")


@dataclass(frozen=True)
class Image:
    """What a guest boots from: kernel, initramfs, and a disk if the image has a root file system."""

    name: str
    kernel: Path | None  # None: the disk boots by itself
    initrd: Path | None
    root_disk: Path | None
    info: dict[str, object]
    root_format: str = "raw"
    uefi: bool = True  # whether UEFI firmware, and BIOS, can boot it
    bios: bool = True


def get(name: str, *, progress: Progress | None = None) -> Image:
    """The image of that name; it is built if it is not in the cache.

    Raises UsageError for an unknown name, MissingToolError if something that the build needs is missing.
    """
    if parts(name)[0] not in _BUILDERS and cloud.is_path(name):
        return _users_own(Path(name))
    if parts(name)[0] not in _BUILDERS:
        raise UsageError(
            f"there is no guest image {name!r}",
            hint=f"images: {', '.join(sorted(_BUILDERS))} (mini-6.12 for another kernel), or a cloud image's path",
        )
    folder = _folder(name)
    info = _whole(folder)
    if info is None:
        info = _build(name, folder, progress or (lambda _: None))
    return _image(name, folder, info)


def parts(name: str) -> tuple[str, str | None]:
    """An image's name without its kernel series, and the series: ``mini-6.12`` is ``mini`` with a kernel 6.12."""
    match = re.fullmatch(r"(\w+|study-small)-(\d{1,3}\.\d{1,3})", name)
    return (match[1], match[2]) if match else (name, None)


def is_built(name: str) -> bool:
    """Whether the complete image is in the cache."""
    return _whole(_folder(name)) is not None


def sources(name: str) -> str:
    """The source tarballs in a built image, with the start of their SHA-256; empty if it has none."""
    info = None if cloud.is_path(name) else _whole(_folder(name))
    files = (info or {}).get("sources")
    if not isinstance(files, dict):
        return ""
    return ", ".join(f"{file} {str(digest)[:16]}" for file, digest in files.items())


def expected(name: str) -> Image:
    """The image with the paths that it has, or will have once built, in the cache."""
    return _users_own(Path(name)) if cloud.is_path(name) else _image(name, _folder(name), {})


def _users_own(path: Path) -> Image:
    found = media.disk(path)
    info: dict[str, object] = {"image": "cloud", "path": str(path)}
    return Image("cloud", None, None, path.resolve(), info, found.format, uefi=found.uefi, bios=found.bios)


def least_memory(name: str, *, ovmf: bool) -> int:
    """The least memory in MiB with which a built-in image boots: initramfs and firmware must fit (measured)."""
    if cloud.is_path(name):
        return 128 if ovmf else 32
    return 192 if ovmf else 96


def root_mib(name: str) -> int | None:
    """The size of an image's root disk in MiB, 0 for an image without one; None for a user's own."""
    if cloud.is_path(name):
        return None
    size = {"bench": _BENCH_SIZE, **study.SIZES}.get(parts(name)[0], "0G")
    return int(size.removesuffix("G")) << 10


def _folder(name: str) -> Path:
    cache_dir("images")
    return cache_path("images", f"{name}-{_recipe_hash(name)}")


def _image(name: str, folder: Path, info: dict[str, object]) -> Image:
    disk = folder / "root.img"
    return Image(name, folder / "vmlinuz", folder / "initrd.img", disk if disk.exists() else None, info)


def _recipe_hash(name: str) -> str:
    """A hash of everything in this package that determines the content of the image."""
    kind, series = parts(name)
    recipe = [name, _RECIPE, MODULES, _USER_PACKAGES, _PROGRAMS]
    if kind in {"bench", *study.NAMES}:
        recipe += [_BENCH_PACKAGES, _BENCH_SIZE]
    if kind in study.NAMES:
        recipe += study.recipe(kind)
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for entry in sorted(resources.files("sevkit.guest").joinpath("rootfs").iterdir(), key=lambda e: e.name):
        digest.update(entry.name.encode() + entry.read_bytes())
    if series is None:
        digest.update(os.environ.get("SEVKIT_GUEST_KERNEL_PACKAGE", "").encode())
    return digest.hexdigest()[:16]


def _whole(folder: Path) -> dict[str, object] | None:
    """The recorded facts about a cached image; None if it is missing, or has changed since it was built."""
    try:
        info = json.loads((folder / "info.json").read_text())
        files = info["files"]
        whole = all(_fingerprint(folder / name) == print_ for name, print_ in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return info if whole and {"vmlinuz", "initrd.img"} <= set(files) else None


def _fingerprint(path: Path) -> list[object]:
    """Size and SHA-256 of a file; for a disk only the size, since reading it would take longer than a guest's boot."""
    size = path.stat().st_size
    if size > _HASHED:
        return [size, None]
    with path.open("rb") as stream:
        return [size, hashlib.file_digest(stream, "sha256").hexdigest()]


def _build(name: str, folder: Path, progress: Progress) -> dict[str, object]:
    lock = folder.with_name(f"{folder.name}.lock")  # with_suffix would cut the name at the point of "mini-6.12"
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # another process may be building the same image: wait for it
        info = _whole(folder)
        if info is not None:
            return info
        prefix = f".building-{folder.name}-"
        for left in folder.parent.glob(f"{prefix}*"):  # from a build that was killed: nobody else has the lock
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as scratch:
            made = Path(scratch) / "image"
            made.mkdir()
            kind, series = parts(name)
            info = _BUILDERS[kind](Path(scratch) / "work", made, series, progress)
            info["files"] = {path.name: _fingerprint(path) for path in sorted(made.iterdir())}
            (made / "info.json").write_text(json.dumps(info, indent=2))
            for path in (*made.iterdir(), made):
                path.chmod(path.stat().st_mode & ~0o022)  # whatever the umask: guests boot this
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        return info


def _kernel(work: Path, series: str | None, progress: Progress) -> tuple[Path, Path, list[str]]:
    """Fetch a kernel; returns its file, its folder of modules, and its packages."""
    apt = None
    if series is not None:
        apt, package = debian.kernel_of_series(series, progress)
        packages = [package]
    else:
        chosen = os.environ.get("SEVKIT_GUEST_KERNEL_PACKAGE")
        packages = debian.kernel_packages([chosen] if chosen else debian.KERNEL_METAPACKAGES)
    progress(f"fetching {packages[0]}")
    debs = debian.fetch(packages, work / "kernel", apt)
    kernels = sorted((work / "kernel/root/boot").glob("vmlinuz-*"))
    if not kernels:
        raise BadInputError(f"no kernel in the packages {' '.join(packages)}")
    return kernels[0], work / "kernel/root", debs


def _base_entries(kernel_root: Path, user_root: Path) -> list[cpio.Entry]:
    """The common content of every initramfs: busybox, modules, the ssh server and our two scripts."""
    busybox = user_root / "bin/busybox"
    applets = processes.run([str(busybox), "--list"], timeout=10, check=BadInputError).text.split()
    if not {"sh", "mount", "insmod"} <= set(applets):
        raise BadInputError("busybox ended with status 0, but did not list its programs")
    entries = [cpio.directory(name) for name in ("dev", "proc", "sys", "run", "tmp", "root", "etc", "mnt")]
    entries.append(cpio.character_device("dev/console", 5, 1))
    entries.append(cpio.file("bin/busybox", busybox.read_bytes(), 0o755))
    entries += [cpio.link(f"bin/{name}", "busybox") for name in applets if name != "busybox"]
    scripts = resources.files("sevkit.guest").joinpath("rootfs")
    entries.append(cpio.file("init", scripts.joinpath("init").read_bytes(), 0o755))
    for name in ("sevkit-main", "sevkit-agent"):
        entries.append(cpio.file(f"sbin/{name}", scripts.joinpath(name).read_bytes(), 0o755))
    entries.append(cpio.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"))
    entries.append(cpio.file("etc/group", b"root:x:0:\n"))
    entries.append(cpio.file("etc/shells", b"/bin/sh\n"))
    entries.append(cpio.file("etc/hosts", b"127.0.0.1 localhost\n"))
    entries.append(
        cpio.file("etc/nsswitch.conf", b"hosts: files dns\n")
    )  # without it, names would be asked of DNS only
    modules = debian.module_closure(MODULES, kernel_root)
    plain = [path.name.split(".")[0] + ".ko" for path in modules]
    entries += [
        cpio.file(f"lib/modules/{name}", debian.read_module(path)) for name, path in zip(plain, modules, strict=True)
    ]
    entries.append(cpio.file("etc/sevkit/modules", "".join(f"{name}\n" for name in plain).encode()))
    for name in _PROGRAMS:
        program = user_root / name
        entries.append(cpio.file(name, program.read_bytes(), 0o755))
        entries += [
            cpio.file(where, source.read_bytes(), 0o755)
            for where, source in debian.needed_libraries(program, user_root).items()
        ]
    return entries


def _build_mini(work: Path, made: Path, series: str | None, progress: Progress) -> dict[str, object]:
    """Build a kernel and a busybox initramfs with an ssh server: it boots to a shell in seconds."""
    kernel, kernel_root, kernel_debs = _kernel(work, series, progress)
    progress("fetching busybox and the ssh server")
    user_debs = debian.fetch(_USER_PACKAGES, work / "user")
    progress("packing the initramfs")
    (made / "initrd.img").write_bytes(cpio.pack(_base_entries(kernel_root, work / "user/root")))
    shutil.copy(kernel, made / "vmlinuz")
    return {"image": "mini", "kernel": kernel.name.removeprefix("vmlinuz-"), "packages": kernel_debs + user_debs}


def _build_bench(work: Path, made: Path, series: str | None, progress: Progress) -> dict[str, object]:
    """Build the mini image's kernel and initramfs, and a Debian root file system with the needs of benchmarks."""
    info = _build_mini(work, made, series, progress)
    recipe = rootdisk.Recipe(_release(), _BENCH_PACKAGES, _BENCH_SIZE)
    _root_disk("bench", made / "root.img", recipe, work, progress)
    return {**info, "image": "bench", "root_packages": list(_BENCH_PACKAGES)}


def _study_builder(name: str) -> "_Builder":
    def build(work: Path, made: Path, series: str | None, progress: Progress) -> dict[str, object]:
        """Build the bench image with the sources that the study compiles."""
        found = study.fetched(progress)
        info = _build_mini(work, made, series, progress)
        included = (*_BENCH_PACKAGES, *study.packages(name))
        recipe = rootdisk.Recipe(_release(), included, study.SIZES[name], (study.hook(name, found, work),))
        _root_disk(name, made / "root.img", recipe, work, progress)
        files = {source.file: source.sha256 for source, _ in found.values()}
        return {**info, "image": name, "root_packages": list(included), "sources": files}

    return build


def _root_disk(name: str, disk: Path, recipe: rootdisk.Recipe, work: Path, progress: Progress) -> None:
    """Build the disk of an image; what its build prints stays in the cache, as the image's log."""
    progress("building a Debian root file system (minutes, once)")
    rootdisk.build(disk, recipe, work / "root", cache_path("images", f"{name}.log"), progress)


def _release() -> str:
    """The Debian release of this machine, since its package sources are the configured ones."""
    text = Path("/etc/os-release").read_text()
    match = re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)
    return match[1] if match else "stable"


_Builder = Callable[[Path, Path, str | None, Progress], dict[str, object]]
_BUILDERS: dict[str, _Builder] = {
    "mini": _build_mini,
    "bench": _build_bench,
    **{name: _study_builder(name) for name in study.NAMES},
}
