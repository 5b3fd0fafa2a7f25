"""Module 1: what an attacker may want and can do. Questions, suggestions, and a first profile."""

from __future__ import annotations

from safedl.threats.questions import QUESTIONS, Choice, Question, check_answers
from safedl.threats.suggest import CATEGORIES, Suggestion, ThreatCategory, not_simulated, suggest

__all__ = [
    "CATEGORIES", "QUESTIONS", "Choice", "Question", "Suggestion", "ThreatCategory", "check_answers", "not_simulated",
    "suggest",
]  # fmt: skip
