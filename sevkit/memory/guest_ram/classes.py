"""Classify pages by their content: zero, plaintext, or ciphertext.

"Ciphertext" means: not distinguishable from uniformly random bytes. A page is classified as plaintext if one of these
tests rejects the null hypothesis "4096 independent uniform bytes":

- number of bits set: binomial(32768, 1/2), approximately normal with mean 16384 and standard deviation 90.5;
- byte histogram: Pearson's chi-square over 256 values, 255 degrees of freedom; two-sided, since a histogram can also be
  too even (the bytes 0, 1, 2, ... in turn);
- number of pairs FF 00 at even offsets: Poisson with mean 2048/65536. JPEG writes each FF of its data as FF 00 (ITU-T
  T.81, B.1.1.5);
- byte histogram of sixteen neighbouring pages (within 256 KiB) together, of those that passed the tests above:
  compressed data is only slightly uneven, and this shows in sixteen pages but not in one.

The thresholds follow from these distributions: together the tests reject a truly random page with a probability of at
most FALSE_PLAINTEXT (type I error). The type II error cannot be chosen: the output of strong compressors (xz) is so
nearly uniform that no such statistic distinguishes it from ciphertext. docs/memory.md has the measured table.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from sevkit.errors import UsageError
from sevkit.memory.sources.base import PAGE

if TYPE_CHECKING:
    import numpy as np

FALSE_PLAINTEXT = 1e-4  # bound on the share of random pages classified as plaintext: the sum of the following
_BITS_HALF_WIDTH = 407  # 4.5 standard deviations: 6.7e-6, both sides together
_CHI_HIGH = 352.43  # scipy.stats.chi2.isf(5e-5, 255)
_CHI_LOW = 167.28  # scipy.stats.chi2.ppf(5e-6, 255)
_JPEG_PAIRS = 3  # Poisson(0.03125): three or more in 5e-6
_CHI_TOGETHER = 355.85  # scipy.stats.chi2.isf(3e-5, 255)
_TOGETHER = 16  # pages
_STEP = 64  # pages at once, 256 KiB: they stay in the cache from one test to the next


class PageClass(IntEnum):
    """The class of a page; arrays of classes hold these numbers."""

    HOLE = 0  # no page: not mapped, or never populated
    ZERO = 1
    PLAINTEXT = 2
    CIPHERTEXT = 3
    UNREAD = 4  # a page that should be there but could not be read

    @property
    def word(self) -> str:
        """The word used in results."""
        return self.name.lower()


def classify(pages: Any) -> "np.ndarray[Any, Any]":
    """The class of each page in a buffer of whole pages (bytes, memoryview or array): uint8, one per page.

    Raises UsageError if the buffer is not a whole number of pages.
    """
    import numpy as np

    data = np.frombuffer(pages, dtype=np.uint8)
    if data.size % PAGE:
        raise UsageError(f"{data.size} bytes are not a whole number of pages")
    data = data.reshape(-1, PAGE)
    classes = np.full(len(data), PageClass.PLAINTEXT, dtype=np.uint8)
    for first in range(0, len(data), _STEP):
        _classify_block(data[first : first + _STEP], classes[first : first + _STEP])
    return classes


def _classify_block(block: "np.ndarray[Any, Any]", classes: "np.ndarray[Any, Any]") -> None:
    """Set the classes of a few pages: fast tests on all of them, the histogram only of those that pass.

    The histogram of a page that failed stays zero, so its chi-square is -4096: rejected, since it is below _CHI_LOW.
    """
    import numpy as np

    bits = np.bitwise_count(block.view(np.uint64)).sum(axis=1, dtype=np.uint32).astype(np.int32)
    pairs = (block.view("<u2") == 0x00FF).view(np.uint8).sum(axis=1, dtype=np.uint16)
    classes[bits == 0] = PageClass.ZERO
    counts = np.zeros((len(block), 256), dtype=np.int64)
    for index in np.flatnonzero((np.abs(bits - 16384) <= _BITS_HALF_WIDTH) & (pairs < _JPEG_PAIRS)).tolist():
        counts[index] = np.bincount(block[index], minlength=256)
    chi = chi_square(counts, PAGE)
    classes[(chi >= _CHI_LOW) & (chi <= _CHI_HIGH)] = PageClass.CIPHERTEXT
    _look_together(counts, classes)


def _look_together(counts: "np.ndarray[Any, Any]", classes: "np.ndarray[Any, Any]") -> None:
    """Reclassify groups of pages whose common histogram is uneven: sixteen pages that passed, or all if fewer.

    The last group is moved back so that it is full: of 20 pages, groups 0 to 15 and 4 to 19 are tested. ``sums`` holds
    prefix sums of the histograms, so that a group's histogram is the difference of two rows.
    """
    import numpy as np

    passed = np.flatnonzero(classes == PageClass.CIPHERTEXT)
    width = min(_TOGETHER, len(passed))
    if width < 2:
        return
    starts = np.array([min(at, len(passed) - width) for at in range(0, len(passed), width)])
    sums = np.concatenate((np.zeros((1, 256), dtype=np.int64), np.cumsum(counts[passed], axis=0)))
    chi = chi_square(sums[starts + width] - sums[starts], width * PAGE)
    for at in starts[chi > _CHI_TOGETHER].tolist():
        classes[passed[at : at + width]] = PageClass.PLAINTEXT


def chi_square(counts: "np.ndarray[Any, Any]", size: int) -> "np.ndarray[Any, Any]":
    """Pearson's statistic of byte histograms (rows of 256) of ``size`` bytes each, against the uniform distribution."""
    import numpy as np

    # With the expected count e = size / 256: sum((n - e)^2 / e) = sum(n^2) / e - size, since sum(n) = size.

    squares = np.einsum("ij,ij->i", counts, counts)
    return np.asarray(squares * (256 / size) - size)


def count(classes: "np.ndarray[Any, Any]") -> dict[str, int]:
    """The number of pages per class, by word; classes without pages are included."""
    import numpy as np

    counts = np.bincount(classes, minlength=len(PageClass))
    return {kind.word: int(counts[kind]) for kind in PageClass}
