"""The report of a leak run as one HTML page that needs no context: no script, no external resources."""

from collections.abc import Mapping, Sequence
from typing import Any

from sevkit import __version__
from sevkit.memory.guest_ram.picture import Picture, from_dict
from sevkit.render import provenance
from sevkit.render.memory_map import COLOURS, MEANING, panel, size
from sevkit.render.page import page

HITS_SHOWN = 200

# (heading, what it tests, key in "controls")
CONTROLS = (
    (
        "positive",
        "markers that must be found, one in guest memory and one in the VMM itself, were found in this capture",
    ),
    ("negative", "a value that was never planted was not found"),
    ("secret_alive", "after the capture the guest could still read its secret back"),
)
EVIDENCE = {
    "plaintext": "the guest's memory can be read",
    "ciphertext": "pages are there but look like random bytes",
    "hole": "the VMM has no such pages mapped",
    "zero": "pages are there but hold only zeros",
}
OUTCOME = {
    True: ("good", "The outcome is as predicted."),
    False: ("bad", "The outcome is not as predicted."),
    None: ("open", "The run is inconclusive."),
}


def render(data: Mapping[str, Any], maps: Sequence[Picture | None] = ()) -> str:
    """The page for the ``data`` of a leak run's result.

    ``maps`` has one picture per experiment, in their order; without it, the maps in the data (``map``) are drawn.
    """
    experiments = [_experiment(each) for each in data["experiments"]]
    pictures = [each for each in maps if each is not None] or _pictures(data["experiments"])
    open_ = any(each["verdict"] == "inconclusive" for each in experiments)
    kinds = list(dict.fromkeys(each["provenance"] for each in experiments))
    kind, words = OUTCOME[None if open_ else bool(data["as_predicted"])]
    return page(
        "leak_report.html.j2",
        experiments=experiments,
        panels=[panel(each) for each in pictures],
        outcome_kind=kind,
        outcome=words,
        version=data.get("versions", {}).get("sevkit", __version__),
        versions=_versions(data),
        started=data.get("started"),
        command=data.get("command"),
        controls=CONTROLS,
        seconds=float(data.get("seconds") or sum(float(each["seconds"]) for each in experiments)),
        provenances=[(each, provenance.WORDS.get(each, "")) for each in kinds],
        mixed=len(kinds) > 1,
    )


def _pictures(experiments: Sequence[Mapping[str, Any]]) -> list[Picture]:
    return [from_dict(each["map"]) for each in experiments if each.get("map")]


def _versions(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in data.get("versions", {}).items()]


def _experiment(e: Mapping[str, Any]) -> dict[str, Any]:
    """One experiment with everything that the template shows; fields that an older result lacks stay empty."""
    details = e.get("details", {})
    hits = e.get("hits", [])
    return {
        "mode": e["mode"],
        "provenance": e["provenance"],
        "verdict": e["verdict"],
        "guest_log": e.get("guest_log", []),
        "evidence": e.get("evidence"),
        "evidence_words": EVIDENCE.get(e.get("evidence") or "", ""),
        "predicted": e.get("predicted"),
        "reasons": e.get("reasons", []),
        "controls": e["controls"],
        "control_details": _flat(details.get("controls", {})),
        "coverage": _coverage(e["coverage"]),
        "dump_coverage": _dump_coverage(details.get("dump_coverage", {})),
        "pages": _pages(e.get("pages", {})),
        "hits": [_hit(hit) for hit in hits[:HITS_SHOWN]],
        "hit_count": len(hits),
        "in_ram": sum(1 for hit in hits if hit.get("gpa") is not None),
        "hypervisor": details.get("hypervisor"),
        "accel": details.get("accel"),
        "why": details.get("why_this_hypervisor"),
        "passed_over": details.get("passed_over", []),
        "capture": details.get("capture", {}),
        "capture_size": size(int(details.get("capture", {}).get("dump_bytes") or 0)),
        "command_line": _command(details.get("command_line", [])),
        "notes": details.get("notes", []),
        "confounds": details.get("confounds", []),
        "nonce": details.get("nonce"),
        "phases": list(e.get("phases", {}).items()),
        "seconds": e["seconds"],
    }


def _hit(hit: Mapping[str, Any]) -> dict[str, Any]:
    gpa = hit.get("gpa")
    return {
        "secret": hit.get("secret", ""),
        "address": f"{hit['address']:#x}",
        "gpa": "" if gpa is None else f"{gpa:#x}",
        "region": hit.get("region") or "",
    }


def _coverage(coverage: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """(what, bytes, share of guest RAM)."""
    total = coverage.get("guest_ram_bytes", 0)
    names = {
        "guest_ram_bytes": "guest RAM",
        "read_bytes": "read",
        "unpopulated_bytes": "never populated, so not there to read",
        "unreadable_bytes": "unreadable",
    }
    rows = [(words, coverage[key]) for key, words in names.items() if key in coverage]
    return [(words, f"{count:,}", f"{100 * count / total:.1f} %" if total else "") for words, count in rows]


def _dump_coverage(coverage: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {
        "mapped_bytes": "mapped in the capture",
        "read_bytes": "searched",
        "skipped_unpopulated_bytes": "never populated",
        "unreadable_bytes": "unreadable",
        "unread_bytes": "not reached",
    }
    rows = [(words, f"{coverage[key]:,}") for key, words in names.items() if key in coverage]
    reasons = coverage.get("unreadable") or {}
    return rows + [(f"unreadable: {why}", f"{count:,}") for why, count in reasons.items()]


def _pages(pages: Mapping[str, int]) -> list[tuple[str, str, str, float]]:
    """(class, colour, pages, share)."""
    total = sum(pages.values()) or 1
    rows = [(MEANING[kind], COLOURS[kind], pages.get(kind.word, 0)) for kind in MEANING]
    return [(name, colour, f"{count:,}", 100 * count / total) for name, colour, count in rows if count]


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows."""
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(inner, Mapping):
            rows += _flat(inner, f"{name}: ")
        elif inner is not None:
            rows.append(
                (name, {True: "yes", False: "no"}.get(inner, str(inner)) if isinstance(inner, bool) else str(inner))
            )
    return rows


def _command(words: Sequence[str]) -> str:
    """A command line that can be pasted, one option per line."""
    import shlex

    quoted = [shlex.quote(str(word)) for word in words]
    return "".join(
        (" \\\n  " if word.startswith("-") and i else " " if i else "") + word for i, word in enumerate(quoted)
    )
