"""Some hundred cases of the long run, always the same ones."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import fuzz

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.scc"))


def test_mutants_are_refused_or_read_and_nothing_else():
    assert GOLDEN, "golden files are missing from this checkout"
    verdicts, findings = fuzz.run(GOLDEN, cases=150, minutes=None, seed=5, out=None)
    assert findings == []
    assert sum(verdicts.values()) == 150
    assert any(verdict.startswith("opened") for verdict in verdicts)


def test_a_finding_is_noticed(monkeypatch):
    def faulty(data: bytes) -> str:
        raise IndexError("not ours")

    monkeypatch.setattr(fuzz, "exercise", faulty)
    verdicts, findings = fuzz.run(GOLDEN, cases=2, minutes=None, seed=5, out=None)
    assert verdicts == {"FINDING": 2}
    assert "IndexError" in findings[0]
