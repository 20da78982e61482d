"""Results as a conclusion may use them: a directory with what is known against it noted in each of its boots.

Every command that compares reads its results here, so that no way leads around the checks.
"""

from collections import Counter
from pathlib import Path

from sevkit.bench import store as stores
from sevkit.bench import verify
from sevkit.bench.analysis.comparison import FEWEST_BOOTS
from sevkit.bench.model import Boot, SlotId
from sevkit.bench.records import Failure, Stop, StoppingRule
from sevkit.bench.store import Campaign

_Arm = tuple[int, str]
UNFINISHED = (
    "the campaign has not ended, and who ends it by hand can choose the moment (the same `bench run` again goes on)"
)

AS_PUBLISHED = "measured with the study's known mistakes (--as-published): only to be compared with its numbers"


def read(path: Path) -> Campaign:
    """Read a results directory and check it; raises BadInputError when it is none.

    Values that contradict the raw outputs, or cannot be checked against them, are doubts: no verdict rests on them.
    """
    campaign = stores.load(path)
    with stores.without_collection():
        found = verify.verified(campaign)
    if found.reasons:
        what = "do not follow from its raw outputs" if found.changes else "cannot be checked"
        imported = campaign.header.get("origin") == "import"
        again = "; if an older sevkit imported it, import it again" if imported else ""
        stores.doubted(campaign, f"values of {path.name} {what} ({found.reasons[0]}); see `sevkit bench verify`{again}")
    if found.means:
        aside = {id(sample) for sample in found.means}
        campaign.samples = [sample for sample in campaign.samples if id(sample) not in aside]
        campaign.notes += found.notes
    caveat, looks, lost = _caveat(campaign), _looks(campaign), _lost(campaign)
    for at in campaign.boots.values():
        at.standing.caveat, at.standing.looks, at.standing.lost = caveat, looks, lost.get(_arm(at), {})
    return campaign


def ended(campaign: Campaign) -> bool:
    """Whether a campaign stopped by its own rule. Results that were not measured by sevkit have none."""
    marks = [event for event in campaign.events if isinstance(event, Stop | StoppingRule)]
    return campaign.header.get("origin") != "run" or (bool(marks) and isinstance(marks[-1], Stop))


def _caveat(campaign: Campaign) -> str:
    """Why there is no verdict unless the user accepts it; empty for none."""
    if not ended(campaign):
        return UNFINISHED
    return AS_PUBLISHED if campaign.header.get("as_published") else ""


def _looks(campaign: Campaign) -> int:
    """How many stopping rules there were, each of which ended when somebody could see a verdict."""
    rules = campaign.of_kind(StoppingRule)
    if rules:
        return 1 + sum(rule.rounds >= FEWEST_BOOTS for rule in rules[1:])
    return max(1, len({stop.rounds for stop in campaign.of_kind(Stop)}))  # directories of older versions


def _lost(campaign: Campaign) -> dict[_Arm, Counter[str]]:
    """In how many boots of each arm a workload failed. A boot that did not come up says nothing of a workload."""
    found: dict[_Arm, Counter[str]] = {}
    for slot_text, workload in {(f.slot, f.workload) for f in campaign.of_kind(Failure)}:
        slot = SlotId.parse(slot_text)
        if slot is not None:
            found.setdefault((slot.config, slot.arm), Counter())[workload] += 1
    return found


def _arm(boot: Boot) -> _Arm:
    slot = SlotId.parse(boot.identity)
    return (-1, "") if slot is None else (slot.config, slot.arm)
