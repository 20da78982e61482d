"""Pinned firmware and foreign suites by apt: from a small archive of the test's own, without network."""

import hashlib
import shutil
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.errors import BadInputError, MissingToolError
from sevkit.guest import apt, firmware, image
from sevkit.vocabulary import Mode

pytestmark = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="needs apt and dpkg-deb"
)

POOL = "pool/main/e/edk2/ovmf_1.0+x_all.deb"
CONTENT = b"firmware image" * 1000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian archive with one package, and the apt configuration of this machine pointing at it alone."""
    root = tmp_path / "debian"
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: ovmf\nVersion: 1.0\nArchitecture: all\nMaintainer: a\nDescription: b\n"
    )
    (tree / "usr/share/ovmf").mkdir(parents=True)
    (tree / "usr/share/ovmf/OVMF.fd").write_bytes(CONTENT)
    (root / POOL).parent.mkdir(parents=True)
    processes.run(["dpkg-deb", "-b", str(tree), str(root / POOL)], timeout=60, check=BadInputError)
    packages = root / "dists/testing/main/binary-amd64/Packages"
    packages.parent.mkdir(parents=True)
    index = f"Package: ovmf\nVersion: 1.0\nArchitecture: all\nFilename: {POOL}\n\n".encode()
    packages.write_bytes(index)
    (packages.parents[2] / "Release").write_text(
        f"Codename: testing\nComponents: main\nArchitectures: amd64\n"
        f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {sha256(index)} {len(index)} main/binary-amd64/Packages\n"
    )
    (tmp_path / "lists/partial").mkdir(parents=True)
    (tmp_path / "sources").write_text(f"deb [trusted=yes arch=amd64] file:{root}/ testing main\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{tmp_path}/lists";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        'APT::Sandbox::User "";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv(firmware.VARIABLE, raising=False)
    processes.run(["apt-get", "update"], timeout=60, check=MissingToolError)
    return root


def pin(archive: Path, **changes: str) -> firmware.Pin:
    known = {
        "package": POOL,
        "package_sha256": sha256((archive / POOL).read_bytes()),
        "member": "usr/share/ovmf/OVMF.fd",
        "sha256": sha256(CONTENT),
    }
    return firmware.Pin(**{**known, **changes})


def test_the_suites_that_apt_knows(archive: Path) -> None:
    assert apt.suites() == [apt.Suite(f"file:{archive}/", "testing")]


def test_a_pinned_file_is_fetched_once(archive: Path) -> None:
    said: list[str] = []
    path = firmware.pinned((pin(archive),), said.append)
    assert path.read_bytes() == CONTENT
    assert said == ["fetching ovmf_1.0+x_all.deb"]
    known = pin(archive)
    (archive / POOL).unlink()
    assert firmware.pinned((known,), said.append) == path
    assert len(said) == 1


def test_a_version_that_left_the_archive_is_passed_over(archive: Path) -> None:
    gone = pin(archive, package="pool/main/e/edk2/ovmf_0.9_all.deb", sha256="1" * 64)
    assert firmware.pinned((gone, pin(archive)), lambda _: None).read_bytes() == CONTENT
    with pytest.raises(MissingToolError, match=r"ovmf_0\.9_all\.deb"):
        firmware.pinned((gone,), lambda _: None)


def test_a_changed_package_or_file_is_never_taken(archive: Path) -> None:
    with pytest.raises(MissingToolError):
        firmware.pinned((pin(archive, package_sha256="2" * 64),), lambda _: None)
    with pytest.raises(BadInputError, match=r"OVMF\.fd"):
        firmware.pinned((pin(archive, sha256="3" * 64),), lambda _: None)
    good = firmware.pinned((pin(archive),), lambda _: None)
    good.write_bytes(CONTENT[:-1] + b"x")
    assert firmware.pinned((pin(archive),), lambda _: None).read_bytes() == CONTENT


def test_which_file_a_mode_takes(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = firmware.find(Mode.SEV_SNP, emulated=True, fetch=False)
    assert expected == firmware.SNP_PINS[0].cached
    for emulated in (False, True):
        # SEV-ES by -bios: code and variables in one file, wherever it runs.
        assert "CODE" not in firmware.find(Mode.SEV_ES, emulated=emulated, fetch=False).name
    own = tmp_path / "own.fd"
    monkeypatch.setenv(firmware.VARIABLE, str(own))
    with pytest.raises(MissingToolError, match=r"own\.fd, which does not exist"):
        firmware.find(Mode.SEV_SNP, emulated=True)
    own.write_bytes(b"")
    assert firmware.find(Mode.SEV, fetch=False) == firmware.find(Mode.SEV_SNP, emulated=True) == own


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mini", ("mini", None)),
        ("bench-6.12", ("bench", "6.12")),
        ("mini-6", ("mini-6", None)),
        ("a-b-6.1", ("a-b-6.1", None)),
    ],
)
def test_an_image_may_name_its_kernels_series(name: str, expected: tuple[str, str | None]) -> None:
    assert image.parts(name) == expected


def test_images_of_different_kernels_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("mini", "mini-6.1", "mini-6.12", "bench", "bench-6.12")
    assert len({image.expected(name).kernel for name in names}) == len(names)
    before = image.expected("mini-6.12").kernel
    monkeypatch.setenv("SEVKIT_GUEST_KERNEL_PACKAGE", "linux-image-6.6-cloud-amd64")
    assert image.expected("mini-6.12").kernel == before
