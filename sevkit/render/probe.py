"""`sevkit probe` for people: plain text, coloured on request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sevkit.render import origin

_COLOURS = {"pass": "32", "fail": "1;31", "skip": "2", "unknown": "33", "ready": "32", "not_ready": "1;31"}
_WORDS = {"ready": "ready", "not_ready": "not ready", "unknown": "unknown"}
_TITLES = {
    "cpu": "CPU",
    "bios": "BIOS",
    "firmware": "Firmware",
    "kernel": "Linux",
    "iommu": "IOMMU",
    "kvm": "KVM",
    "capacity": "Capacity",
    "tools": "Programs",
}


class Painter:
    """Puts colours around words, or does not."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, word: str, kind: str) -> str:
        """``word`` in the colour of ``kind``."""
        code = _COLOURS.get(kind)
        return f"\x1b[{code}m{word}\x1b[0m" if self._colour and code else word


def human(data: Mapping[str, Any], *, colour: bool = False, everything: bool = False) -> str:
    """The report on one screen: CPU, leaf, guest, the checks that ran with hints, the verdict on each mode.

    Skipped checks are counted per check that caused the skip; with ``everything`` they are listed.
    """
    if "checks" not in data:
        return log(data["kernel_log"])
    paint = Painter(colour)
    parts = [*_source(data["source"]), _cpu(data), *_leaf(data["leaf"]), *_guest(data["guest"]), ""]
    parts += _tree(data["checks"], paint, everything)
    parts += ["", *_verdicts(data, paint)]
    return "\n".join(parts) + "\n"


def short(data: Mapping[str, Any], *, colour: bool = False) -> str:
    """One line for the CPU, one per mode."""
    if "checks" not in data:
        return log(data["kernel_log"])
    leaf = data["leaf"]
    lines = [*origin.words(data["source"]), _cpu(data)]
    lines.append(f"leaf 0x8000001F: {leaf['status'] or 'unknown'} ({leaf['reason']})")
    return "\n".join([*lines, *_guest(data["guest"]), *_verdicts(data, Painter(colour))]) + "\n"


def log(verdict: Mapping[str, Any]) -> str:
    """The judgement on a kernel log."""
    host = ", ".join(f"{name.replace('_', '-')} {state}" for name, state in verdict["host"].items())
    lines = [
        f"role:    {verdict['role']}",
        f"active:  {', '.join(verdict['active']) or 'nothing that the log names'}",
        f"as host: {host}",
    ]
    lines += [f"  line {x['line']}: {x['text']}\n    {x['means']}" for x in verdict["evidence"]]
    unknown = verdict["not_understood"]
    if unknown["count"]:
        shown = ", ".join(str(number) for number in unknown["first"])
        more = ", …" if unknown["count"] > len(unknown["first"]) else ""
        lines.append(f"not understood: {unknown['count']} lines with words of memory encryption (line {shown}{more})")
    lines += [f"note: {note}" for note in verdict["notes"]]
    return "\n".join(lines) + "\n"


def _source(source: Mapping[str, Any]) -> list[str]:
    lines = origin.words(source) + [f"{row['file']}: {row['what']}" for row in source.get("used", ())]
    return lines + [f"contradiction: {words}" for words in source.get("contradictions", ())]


def _cpu(data: Mapping[str, Any]) -> str:
    cpu = data["cpu"]
    numbers = ""
    if cpu["family"] is not None:
        numbers = f", family {cpu['family']:#x}, model {cpu['model']:#x}, stepping {cpu['stepping']}"
    silicon = f", silicon of {cpu['generation']}" if cpu["generation"] else ""
    return f"{cpu['brand'] or cpu['vendor'] or 'unknown CPU'}{numbers}{silicon}"


def _leaf(leaf: Mapping[str, Any]) -> list[str]:
    lines = [f"leaf 0x8000001F: {leaf['status'] or 'unknown'} ({leaf['reason']})"]
    fields = leaf["fields"]
    if fields and leaf["status"] == "present":
        lines.append(_wrap("features: ", [name for name, value in fields.items() if value is True]))
        numbers = [f"{name} {value}" for name, value in fields.items() if not isinstance(value, bool)]
        lines.append(_wrap("numbers:  ", numbers, ", "))
        derived = leaf["derived"]
        ranges = [
            f"{label} {derived[key]}" + (f" ({span[0]} to {span[1]})" if (span := derived[key[:-1] + "_range"]) else "")
            for label, key in (("SEV", "sev_asids"), ("SEV-ES and SNP", "sev_es_snp_asids"))
        ]
        lines.append(f"ASIDs:    {', '.join(ranges)}")
    for register, bits in (leaf["unknown_bits"] or {}).items():
        lines.append(
            f"unknown:  {register.upper()} bits {', '.join(map(str, bits))} are set, and no field is known for them"
        )
    for entry in leaf["differences"]:
        values = "; ".join(f"{x['value']} on CPU {_cpus(x['cpus'])}" for x in entry["values"])
        lines.append(f"differs:  {entry['field']}: {values}")
    return lines


def _cpus(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{shown}, … ({len(numbers)} CPUs)" if len(numbers) > 8 else shown


def _guest(guest: Mapping[str, Any]) -> list[str]:
    if not guest["in_guest"]:
        return []
    words = {True: "active", False: "not active", None: "unknown"}
    lines = [
        f"guest of {guest['hypervisor'] or 'a hypervisor'}: "
        + ", ".join(f"{k} {words[v]}" for k, v in guest["active"].items())
    ]
    if guest["emulated"] and any(guest["active"].values()):
        lines.append("  emulated: QEMU executes this guest without KVM, and no hardware encrypts its memory")
    return lines + [f"  {entry['from']}: {entry['says']}" for entry in guest["evidence"]]


def _tree(checks: Iterable[Mapping[str, Any]], paint: Painter, everything: bool) -> list[str]:
    every = list(checks)
    rows = [row for row in every if everything or row["status"] != "skip"]
    depths: dict[str, int] = {}
    lines: list[str] = []
    by_id = {row["id"]: row for row in rows}
    for category in dict.fromkeys(row["category"] for row in rows):
        lines.append(_TITLES.get(category, category))
        for row in (r for r in rows if r["category"] == category):
            parents = [depths[p] for p in row["depends_on"] if p in by_id and by_id[p]["category"] == category]
            depths[row["id"]] = depth = max(parents, default=-1) + 1
            lines += _row(row, "  " * (depth + 1), paint)
    return lines if everything else lines + _folded(every)


def _folded(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The number of skipped checks, per check that caused the skip."""
    by_id = {row["id"]: row for row in rows}
    counts: dict[str, int] = {}
    for row in rows:
        if row["status"] == "skip":
            cause = _cause(row, by_id)
            counts[cause] = counts.get(cause, 0) + 1
    if not counts:
        return []
    words = [f"{count} because {cause} did not pass" for cause, count in sorted(counts.items(), key=lambda x: -x[1])]
    return [_wrap("Not reached: ", [*words[:-1], f"{words[-1]} (--all lists them)"], ", ")]


def _cause(row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> str:
    """The check that caused a skip in the first place."""
    for parent in row["depends_on"]:
        status = by_id[parent]["status"]
        if status == "skip":
            return _cause(by_id[parent], by_id)
        if status == "fail":
            return str(parent)
    return str(row["id"])


def _row(row: Mapping[str, Any], indent: str, paint: Painter) -> list[str]:
    status = row["status"]
    mark = f"{'advice' if status == 'fail' and row['weight'] == 'advice' else status:<7}"
    kind = "unknown" if mark == "advice " else status
    lines = [f"{indent}{paint(mark, kind)} {row['description']} ({row['id']}): {row['message']}"]
    if status in ("fail", "unknown") and row["weight"] != "advice":
        lines.append(f"{indent}        hint: {row['hint']}")
    return lines


def _verdicts(data: Mapping[str, Any], paint: Painter) -> list[str]:
    lines = []
    for mode, verdict in data["readiness"].items():
        word = verdict["verdict"]
        names = verdict["blocking"] if word == "not_ready" else verdict["unknown"]
        why = f" ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})" if names else ""
        lines.append(f"{mode:<8}{paint(_WORDS[word], word)}{why}")
    return lines


def _wrap(label: str, words: list[str], separator: str = " ", width: int = 110) -> str:
    lines, current = [], label
    for word in words:
        if len(current) + len(word) > width:
            lines.append(current.rstrip())
            current = " " * len(label)
        current += word + separator
    return "\n".join([*lines, current.rstrip(separator)])
