"""The attacks as experiments: every cell as expected, AMD's table as oracle, every failure of SEV-SNP cited."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sevkit import attacks
from sevkit.attacks import flaws, matrix, wesee
from sevkit.attacks.claims import THREATS, Claim
from sevkit.attacks.experiment import COLUMNS, Attack, Form, Mitigation, Notebook, Outcome, Stage
from sevkit.attacks.matrix import as_data, in_model, run_model
from sevkit.attacks.plan import Planned
from sevkit.errors import GuestError, UsageError
from sevkit.guest.spec import GuestSpec
from sevkit.render import matrix as renderer
from sevkit.vocabulary import Level, Mode

ATTACKS: list[Attack] = list(attacks.discover().values())
DOCS = Path(__file__).parents[2] / "docs" / "attacks.md"
ids = [attack.name for attack in ATTACKS]


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
@pytest.mark.parametrize(("mode", "mitigated"), COLUMNS)
@pytest.mark.parametrize("seed", [1, 77])
def test_every_cell_is_as_expected(attack: Attack, mode: Mode, mitigated: bool, seed: int) -> None:
    run = in_model(attack, mode, mitigated, seed=seed).run
    assert run.as_expected, run.steps
    assert run.observation.check not in ("", "unknown")
    if run.outcome is not Outcome.NOT_APPLICABLE:
        assert {step.stage for step in run.steps} >= {Stage.SETUP, Stage.PREDICTION, Stage.VERDICT}
        assert run.steps[0].stage is Stage.SETUP
        assert run.steps[-1].stage is Stage.VERDICT


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
def test_amds_table_is_the_oracle(attack: Attack) -> None:
    """What AMD claims to mitigate is stopped, what is optional is stopped with mitigations, or somebody is cited."""
    if attack.claim is None:
        return
    for mode in (Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP):
        claim = THREATS[attack.claim].claim(mode)
        outcome = attack.expected[mode].outcome
        if claim is Claim.MITIGATED and outcome is Outcome.WORKS:
            assert attack.breaks_claim is not None, f"{attack.name} contradicts AMD's table without a citation"
        if claim is Claim.OPTIONAL:
            assert attack.expectation(mode, frozenset(Mitigation)).outcome is Outcome.STOPPED


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
def test_every_attack_is_documented_data(attack: Attack) -> None:
    assert set(attack.expected) == set(Mode)
    assert attack.sources
    assert attack.title
    assert attack.summary.endswith(".")
    assert (attack.mitigated is None) == (not attack.mitigations)
    assert f"`{attack.name}`" in DOCS.read_text(), f"docs/attacks.md says nothing about {attack.name}"


def test_every_mitigation_stops_something() -> None:
    used = {mitigation for attack in ATTACKS for mitigation in attack.mitigations}
    assert used == set(Mitigation)


def test_each_failure_of_snp_cites_a_source() -> None:
    runs = [cell.run for cell in run_model(ATTACKS) if cell.run.mode is Mode.SEV_SNP]
    failures = [run for run in runs if run.outcome is Outcome.WORKS]
    assert failures
    assert [run.attack.name for run in failures if not run.cites] == []


def test_the_issue_lists_these() -> None:
    wanted = (
        "leak replay corruption remapping aliasing register-leak register-tamper shared-page debug-decrypt asid-abuse"
    )
    wanted += " ciphertext-channel block-move launch-permutation double-validate badram cachewarp interrupt-injection"
    assert set(wanted.split()) <= set(ids)


def test_mitigations_have_no_effect_where_the_mode_has_none() -> None:
    notebook = Notebook(Mode.SEV, frozenset(Mitigation))
    assert not notebook.has(Mitigation.CIPHERTEXT_HIDING)
    assert notebook.has(Mitigation.DEBUG_FORBIDDEN)


@pytest.mark.parametrize("mitigation", list(Mitigation))
@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_SNP])
def test_any_single_mitigation_gives_what_is_expected(mitigation: Mitigation, mode: Mode) -> None:
    for attack in ATTACKS:
        notebook = Notebook(mode, frozenset({mitigation}))
        observed = attack.perform(notebook).outcome
        assert observed is attack.expectation(mode, notebook.mitigations).outcome, attack.name


def test_same_seed_same_story() -> None:
    attack = attacks.find("corruption")
    stories = [in_model(attack, Mode.SEV, False, seed=5).run.steps for _ in range(2)]
    assert stories[0] == stories[1]
    assert in_model(attack, Mode.SEV, False, seed=6).run.steps != stories[0]


@pytest.mark.parametrize("seed", range(1, 13))
def test_heracles_finds_whatever_the_secret_is(seed: int) -> None:
    run = in_model(attacks.find("heracles"), Mode.SEV_SNP, False, seed=seed).run
    assert run.outcome is Outcome.WORKS, run.steps


@pytest.mark.parametrize("mode", [Mode.SEV_ES, Mode.SEV_SNP])
def test_the_patched_handler_still_serves_a_true_vmmcall(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """WeSee is stopped because no VMMCALL was executed, not because the handler serves nothing."""
    note = Notebook(mode, frozenset({Mitigation.VC_OPCODE_CHECK}))
    assert attacks.find("wesee").perform(note).check == "vc-opcode-check"
    monkeypatch.setattr(wesee, "_PROGRAM", wesee._PROGRAM.replace("    nop ", "    vmmcall "))
    note = Notebook(mode, frozenset({Mitigation.VC_OPCODE_CHECK}))
    assert attacks.find("wesee").perform(note).outcome is Outcome.WORKS


def test_the_page_needs_nothing_else() -> None:
    data = as_data(ATTACKS, run_model(ATTACKS), [Level.MODEL], 1)
    page = renderer.html(data)
    assert not re.search(r"""<(?!a )[^>]*(src|href)\s*=\s*["']?(https?:)?//""", page)  # links that a reader may follow
    assert "<script" not in page
    assert page.count("<td class=") == 5 * len(ATTACKS)
    markdown = renderer.markdown(data)
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == len(ATTACKS) + 2


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as error:
        attacks.find("nothing")
    assert "replay" in (error.value.hint or "")


def stand_in(
    monkeypatch: pytest.MonkeyPatch,
    modes: Iterable[Mode],
    opened: Callable[..., object],
    performed: Callable[..., object] | None = None,
) -> None:
    """Guests of the emulator in these modes, opened by ``opened``, in which ``performed`` stands for an experiment."""
    monkeypatch.setattr(matrix, "opened", opened)
    monkeypatch.setattr(
        matrix, "plan", lambda attack, modes, target, progress: [Planned(modes[0], Level.EMULATOR, Form.GUEST)]
    )
    monkeypatch.setattr(matrix, "available", lambda level: dict.fromkeys(modes))
    monkeypatch.setattr(matrix, "_answers", lambda _: True)
    if performed is not None:
        monkeypatch.setattr(matrix, "_performed", performed)


def test_a_guest_that_does_not_come_up_leaves_the_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attack of that mode is inconclusive and says why; nothing is dropped, and nothing raises."""

    def fails(*_: object) -> object:
        raise GuestError("the guest's kernel panicked")

    stand_in(monkeypatch, Mode, fails)
    cells = list(matrix.run_guests(ATTACKS, Level.EMULATOR))
    assert len(cells) == sum(attack.has_guest_form(mode) for attack in ATTACKS for mode in Mode)
    assert {cell.run.observation.check for cell in cells} == {"the guest's kernel panicked"}
    assert {cell.run.outcome for cell in cells} == {Outcome.INCONCLUSIVE}


@pytest.mark.parametrize("bulletin", sorted(flaws.known()))
def test_the_column_of_an_unpatched_platform_is_as_expected(bulletin: str) -> None:
    """Each attack that names the check it falls with works without that check, and only those change."""
    on = flaws.parse(bulletin)
    cells = {cell.run.attack.name: cell.run for cell in matrix.run_vulnerable(list(ATTACKS), on)}
    assert [run.attack.name for run in cells.values() if not run.as_expected] == []
    fallen = {name for name, run in cells.items() if run.attack.falls_with in flaws.passed(on)}
    assert bool(fallen) == bool(on[0].passes)
    assert all(cells[name].outcome is Outcome.WORKS and bulletin in str(cells[name].cites) for name in fallen)


def test_what_falls_with_a_check_is_stopped_by_it() -> None:
    for attack in ATTACKS:
        if attack.falls_with is not None:
            run = matrix.in_model(attack, Mode.SEV_SNP, False).run
            assert (run.outcome, run.observation.check) == (Outcome.STOPPED, attack.falls_with)


@pytest.mark.parametrize(
    ("mode", "policy", "forbids"),
    [
        (Mode.SEV, None, False),
        (Mode.SEV, 0x1, True),
        (Mode.SEV, 0x0, False),
        (Mode.SEV_ES, 0x5, True),
        (Mode.SEV_ES, 0x4, False),
        (Mode.SEV_SNP, 0x30000, True),
        (Mode.SEV_SNP, 0xB0000, False),
    ],
)
def test_a_policy_that_was_given_decides_what_debugging_should_give(
    mode: Mode, policy: int | None, forbids: bool
) -> None:
    attack = attacks.find("debug-decrypt")
    assert attack.mitigations_of is not None
    on = attack.mitigations_of(GuestSpec(mode=mode, policy=policy))
    assert attack.expectation(mode, on).outcome is (Outcome.STOPPED if forbids else Outcome.WORKS)


@pytest.mark.parametrize("lasting", [False, True])
def test_an_inconclusive_experiment_is_performed_once_more_in_a_fresh_guest(
    lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests: list[SimpleNamespace] = []
    performed: list[tuple[str, int]] = []

    @contextmanager
    def opened(planned: list[Planned], *_: object) -> Iterator[dict[Mode, SimpleNamespace]]:
        guests.append(SimpleNamespace(planned=planned[0], number=len(guests)))
        yield {each.mode: guests[-1] for each in planned}

    def perform(attack: Attack, session: SimpleNamespace, *_: object) -> object:
        first = not any(name == attack.name for name, _ in performed)
        performed.append((attack.name, session.number))
        if attack.name == "remapping" and (first or lasting):
            return matrix._not_run(attack, session.planned, "not now")
        return in_model(attack, session.planned.mode, False).run

    stand_in(monkeypatch, [Mode.SEV], opened, perform)
    known = [attacks.find(name) for name in ("replay", "remapping", "leak")]
    cells = list(matrix.run_guests(known, Level.EMULATOR))
    assert performed == [("replay", 0), ("remapping", 0), ("remapping", 1), ("leak", 1)]
    assert [cell.run.attack.name for cell in cells] == ["replay", "remapping", "leak"]
    assert [cell.run.outcome is Outcome.INCONCLUSIVE for cell in cells] == [False, lasting, False]


def test_a_matrix_that_is_left_early_ends_its_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modes are performed at a time; an experiment that waits for its guest ends when that is stopped."""
    ended = {mode: threading.Event() for mode in Mode}
    both_run = threading.Barrier(2, timeout=60)

    class FakeSession:
        def __init__(self, mode: Mode) -> None:
            self.planned = Planned(mode, Level.EMULATOR, Form.GUEST)

        def end(self) -> None:
            ended[self.planned.mode].set()

    @contextmanager
    def opened(planned: list[Planned], *_: object) -> Iterator[dict[Mode, FakeSession]]:
        yield {each.mode: FakeSession(each.mode) for each in planned}

    def performed(attack: Attack, session: FakeSession, *_: object) -> object:
        both_run.wait()
        if session.planned.mode is not Mode.NOSEV:
            assert ended[session.planned.mode].wait(60)
        return in_model(attack, session.planned.mode, False).run

    stand_in(monkeypatch, (Mode.NOSEV, Mode.SEV), opened, performed)
    cells = matrix.run_guests([attacks.find("replay")], Level.EMULATOR)
    assert next(cells).run.mode is Mode.NOSEV
    assert not ended[Mode.SEV].is_set()
    cells.close()
    assert ended[Mode.SEV].is_set()
