"""Some hundred cases of the long run, always the same ones."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz

TARGETS = {
    *("parse", "info", "verify", "extract", "join", "entropy decode"),
    *("decode picture", "decode region", "decode tensors"),
}


def test_mutants_are_refused_or_read_and_nothing_else():
    outcome = fuzz.run(fuzz.seeds(), cases=150, minutes=None, seed=7, out=None)
    assert outcome.findings == []
    assert sum(outcome.verdicts.values()) == 150
    assert any(verdict.startswith("opened") for verdict in outcome.verdicts)
    assert set(outcome.targets.calls) == TARGETS
    for target in TARGETS - {"info", "verify"}:  # these do not refuse what opens
        assert 0 < outcome.targets.refused[target] < outcome.targets.calls[target], target


def faulty(*_):
    raise IndexError("not ours")


def endless(*_):
    while True:
        pass


@pytest.mark.parametrize(("reader", "words"), [(faulty, "IndexError"), (endless, "TooSlow")])
def test_a_finding_is_noticed(monkeypatch, tmp_path, reader, words):
    monkeypatch.setattr(fuzz, "exercise", reader)
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    outcome = fuzz.run(fuzz.seeds(), cases=2, minutes=None, seed=5, out=tmp_path)
    assert outcome.verdicts == {"FINDING": 2}
    assert words in outcome.findings[0]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".scc", ".scc", ".txt", ".txt"]
