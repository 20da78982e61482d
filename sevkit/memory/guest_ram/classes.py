"""What a page looks like: zero, plaintext, or like ciphertext.

"Ciphertext" means: not told apart from uniformly random bytes. A page is called plaintext as soon as one of these tests
refuses the hypothesis "4096 independent uniform bytes":

- bits set: binomial(32768, 1/2), so normal with mean 16384 and deviation 90.5;
- byte histogram: Pearson's chi-square over 256 values, 255 degrees of freedom; too even is refused as well (a ramp);
- the pair FF 00 at even places: Poisson with mean 2048/65536. JPEG writes each FF of its data as FF 00 (ITU-T T.81,
  B.1.1.5);
- the histogram of sixteen pages of one neighbourhood (256 KiB) together, of those that have passed so far: compressed
  data is only slightly uneven, and sixteen pages show it where one does not.

The thresholds are taken from these distributions so that together they refuse a truly random page with a probability
of at most FALSE_PLAINTEXT. The other error is not ours to choose: the output of strong compressors (xz) is so nearly
uniform that no such statistic tells it from ciphertext. docs/memory.md has the measured table.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from sevkit.errors import UsageError
from sevkit.memory.sources.base import PAGE

if TYPE_CHECKING:
    import numpy as np

FALSE_PLAINTEXT = 1e-4  # of truly random pages, the share that is called plaintext: the sum of what follows
_BITS_HALF_WIDTH = 407  # 4.5 deviations: 6.7e-6, both sides together
_CHI_HIGH = 352.43  # scipy.stats.chi2.isf(5e-5, 255)
_CHI_LOW = 167.28  # scipy.stats.chi2.ppf(5e-6, 255)
_JPEG_PAIRS = 3  # Poisson(0.03125): three or more in 5e-6
_CHI_TOGETHER = 355.85  # scipy.stats.chi2.isf(3e-5, 255)
_TOGETHER = 16  # pages
_STEP = 64  # pages at once, 256 KiB: they stay in the cache between the passes


class PageClass(IntEnum):
    """The class of a page, as it stands in arrays of classes."""

    HOLE = 0  # no page there: not mapped, or never populated
    ZERO = 1
    PLAINTEXT = 2
    CIPHERTEXT = 3
    UNREAD = 4  # a page that should be there but could not be read

    @property
    def word(self) -> str:
        """The word used in results."""
        return self.name.lower()


def classify(pages: Any) -> "np.ndarray[Any, Any]":
    """The class of each page in a buffer of whole pages (bytes, memoryview or array): uint8, one a page.

    Raises UsageError when the buffer is not a whole number of pages.
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
    """Set the classes of a few pages: quick tests on all of them, the histogram for those that pass."""
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
    """Refuse pages that are uneven together: sixteen at a time of those that have passed, or all if they are fewer."""
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

    squares = np.einsum("ij,ij->i", counts, counts)
    return np.asarray(squares * (256 / size) - size)


def count(classes: "np.ndarray[Any, Any]") -> dict[str, int]:
    """How many pages there are of each class, by word; all classes are named."""
    import numpy as np

    counts = np.bincount(classes, minlength=len(PageClass))
    return {kind.word: int(counts[kind]) for kind in PageClass}
