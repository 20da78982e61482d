"""How busy other programs kept the host: while a row was measured in a boot, or else until that boot had come up."""

from collections.abc import Iterable, Mapping, Sequence

from sevkit.bench.model import Boot, Sample, checked

OTHERS = "others"  # in the extra of a sample: seconds of CPU that others used in its window, and the window's seconds
BUSY = 0.5  # load of other programs per CPU of the host, above which numbers are about the neighbours
SHORTEST = 0.5  # seconds of a window: the kernel counts CPU time in ticks of 10 ms, so that shorter ones tell nothing
_JOINED = 1.0  # seconds up to which the windows of short samples are taken together


def of_boot(at: Boot) -> float:
    """The CPUs that others used until a boot had come up, per CPU of the host; 0 where nothing is known.

    Results of older versions have the load of the last minute alone: then it is that without the campaign's own.
    """
    others, load, cpus, own = (at.environment.get(key) for key in ("other CPUs", "load", "CPUs", "own CPUs"))
    try:
        if others is not None:
            return max(0.0, float(others)) / float(cpus) if cpus else 0.0
        if "other CPUs" in at.environment:  # it was up too fast to tell
            return 0.0
        return max(0.0, float(load[0]) - float(own or 1)) / float(cpus) if load and cpus else 0.0
    except (TypeError, ValueError, LookupError, ZeroDivisionError):
        return 0.0


def of_samples(samples: Iterable[Sample]) -> dict[str, float]:
    """The load of each boot while it gave these samples of one row, in order; by the boot's identity.

    Where samples do not tell, it is that of the boot.
    """
    boots: dict[str, Boot] = {}
    windows: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        identity = sample.at.identity
        if identity not in boots:
            boots[identity], windows[identity] = sample.at, []
        if OTHERS in sample.extra and (window := _window(sample.extra)) is not None:
            windows[identity].append(window)
    return {identity: _highest(at, windows[identity]) for identity, at in boots.items()}


def _window(extra: Mapping[str, object]) -> tuple[float, float] | None:
    pair = extra[OTHERS]
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    try:
        spent, seconds = map(checked, pair)
    except ValueError:
        return None
    return (spent, seconds) if spent >= 0 and seconds > 0 else None


def _highest(at: Boot, windows: Sequence[tuple[float, float]]) -> float:
    cpus = at.environment.get("CPUs")
    stretches = _stretches(windows)
    if not stretches or not isinstance(cpus, int) or cpus < 1:
        return of_boot(at)
    return max(spent / seconds for spent, seconds in stretches) / cpus


def _stretches(windows: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Windows, short ones taken together with those after them; none where all of them are too short."""
    found: list[tuple[float, float]] = []
    spent = seconds = 0.0
    for more, longer in windows:
        spent, seconds = spent + more, seconds + longer
        if seconds >= _JOINED:
            found.append((spent, seconds))
            spent = seconds = 0.0
    if found and seconds:
        last = found.pop()
        return [*found, (last[0] + spent, last[1] + seconds)]
    return found or ([(spent, seconds)] if seconds >= SHORTEST else [])
