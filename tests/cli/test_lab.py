"""``sevkit lab``: answers are held against experiments, and a wrong one is told."""

import pytest

from sevkit.attacks.course import EXERCISES
from tests.cli.conftest import Run, RunJson

RIGHT = {1: "plaintext", 2: "ciphertext", 3: "works", 4: "rmp-host-write-assigned", 5: "works", 6: "works"}
RIGHT |= {7: "versioned-chip-key", 8: "alias-check"}
WRONG = {1: "ciphertext", 2: "hole", 3: "stopped", 4: "rmp-gpa", 5: "stopped", 6: "stopped", 7: "rmp-gpa"}
WRONG |= {8: "invd-microcode"}


@pytest.mark.parametrize("number", [each.number for each in EXERCISES])
def test_right_and_wrong_answers(sevkit_json: RunJson, number: int) -> None:
    level = [] if number in {5, 7, 8} else ["--level", "model"]
    for answer, right in ((RIGHT[number], True), (WRONG[number], False)):
        status, envelope = sevkit_json("lab", "check", str(number), answer, *level)
        assert (status, envelope["data"]["right"]) == (0 if right else 1, right)
        assert envelope["data"]["experiment"]["level"] == "model"


def test_the_list_and_odd_answers(sevkit: Run, sevkit_json: RunJson) -> None:
    assert len(sevkit_json("lab", "list")[1]["data"]["exercises"]) == 8
    assert "sevkit lab check 3 ANSWER" in sevkit("lab", "list")[1]
    status, out, _ = sevkit("lab", "check", "5", "stopped")
    assert status == 1
    assert "Not right:" in out
    for argv in (
        ["9", "works"],
        ["0", "works"],
        ["3", "perhaps"],
        ["1", ""],
        ["2", "works"],
        ["4", ""],
        ["8", "prayer"],
        ["x", "works"],
        ["5", "works", "--level", "emulator"],
    ):
        assert sevkit("lab", "check", *argv)[0] == 2, argv
