"""Some hundred cases of the long run, always the same ones."""

from __future__ import annotations

from tests.fuzz import fuzz

TARGETS = {"parse", "info", "verify", "extract", "join", "decode", "entropy decode"}


def test_mutants_are_refused_or_read_and_nothing_else():
    outcome = fuzz.run(fuzz.seeds(), cases=150, minutes=None, seed=5, out=None)
    assert outcome.findings == []
    assert sum(outcome.verdicts.values()) == 150
    assert any(verdict.startswith("opened") for verdict in outcome.verdicts)
    assert set(outcome.targets.calls) == TARGETS
    for target in TARGETS - {"info", "verify"}:  # these do not refuse what opens
        assert 0 < outcome.targets.refused[target] < outcome.targets.calls[target], target


def test_a_finding_is_noticed(monkeypatch):
    def faulty(*_):
        raise IndexError("not ours")

    monkeypatch.setattr(fuzz, "exercise", faulty)
    outcome = fuzz.run(fuzz.seeds(), cases=2, minutes=None, seed=5, out=None)
    assert outcome.verdicts == {"FINDING": 2}
    assert "IndexError" in outcome.findings[0]
