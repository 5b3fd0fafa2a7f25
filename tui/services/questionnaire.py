"""A profile that is being made by questions: nothing is written before all are answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from safedl.catalog.datasets import DATASETS
from safedl.errors import UsageError
from safedl.profile.save import dump, store
from safedl.threats import QUESTIONS, Choice, Question, suggest
from safedl.workspace import Workspace
from tui.services.drafts import new_text

DATASET = Question(
    "dataset",
    "Which images is it trained on?",
    "Attacks and defenses are measured on them. Images of your own are set under 'data set' later on.",
    tuple(Choice(spec.name, spec.summary) for spec in DATASETS.values()),
)
ASKED = (*QUESTIONS, DATASET)


@dataclass
class NewProfile:
    """A name and the answers so far, question id to value."""

    name: str
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def open(self) -> list[Question]:
        """The questions that have no answer yet."""
        return [q for q in ASKED if self.answers.get(q.id) not in q.values]

    @property
    def categories(self) -> list[str]:
        """The threat categories that the answers suggest."""
        return [s.category for s in suggest(self.answers)]

    def preview(self) -> str:
        """Return the YAML that will be written, as far as the answers go."""
        if not self.open:
            return self._text()
        answers = {q.id: self.answers[q.id] for q in QUESTIONS if q.id in self.answers}
        document = {"name": self.name, "threat_model": {**answers, "threat_categories": self.categories}}
        if "dataset" in self.answers:
            document = {"name": self.name, "dataset": {"name": self.answers["dataset"]}, **document}
        return dump(document)

    def write(self, workspace: Workspace) -> Path:
        """Write the profile into the workspace. Raises `UsageError` if that is not possible, or there is one by now."""
        path = workspace.root / "profiles" / f"{self.name}.yaml"
        if path.exists():
            raise UsageError(f"{path} has been made meanwhile, and is not replaced: begin anew with another name")
        store(path, self._text())
        return path

    def _text(self) -> str:
        return new_text(self.name, self.answers, self.answers["dataset"], self.categories)
