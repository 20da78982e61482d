"""A quick, seeded run of every fuzz target: the corpus that is kept, and inputs made from it."""

import os

import pytest

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import CORPUS, TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_corpus_and_what_it_mutates_into(name: str) -> None:
    """SEVKIT_FUZZ_SEED and SEVKIT_FUZZ_COUNT make it another run, or a longer one."""
    target = TARGETS[name]
    corpus = [path.read_bytes() for path in sorted(target.corpus.iterdir())]
    assert corpus, f"no corpus in {target.corpus}"
    for data in [*corpus, b""]:
        target.run(data)
    seed = int(os.environ.get("SEVKIT_FUZZ_SEED", "1"))
    count = int(os.environ.get("SEVKIT_FUZZ_COUNT", str(target.quick)))
    for number, data in enumerate(inputs(corpus, count, seed)):
        try:
            target.run(data)
        except Exception:
            find = CORPUS / name / f"find-{seed}-{number}"
            find.write_bytes(data)
            print(f"the input is kept in {find}")
            raise


def test_some_seeds_are_accepted() -> None:
    """A corpus of nothing but refused inputs would test the first check of each reader and no more."""
    for target in TARGETS.values():
        if target.name == "qmp":
            continue  # no seed can answer questions
        accepted = 0
        for path in target.corpus.iterdir():
            try:
                target.read(path.read_bytes())
                accepted += 1
            except Exception:
                continue
        assert accepted, target.name
