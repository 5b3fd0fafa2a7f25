"""What people answer to the checklist: done or not, a note, an owner, a date, or a waiver with its reason."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from safedl.catalog.settings import Section
from safedl.errors import UsageError


class Answer(Section):
    """An answer to one item. A waiver lifts a failed check and needs an owner who answers for it."""

    done: bool = Field(False, description="Whether a manual item is settled.")
    note: str = Field("", description="What was done, and where it is written down.")
    owner: str = Field("", description="Who answers for it.")
    date: datetime.date | None = Field(None, description="When it was settled or waived.")
    waiver: str = Field("", description="Why the item may stay as it is.")

    @model_validator(mode="after")
    def _owned(self) -> Answer:
        if self.waiver.strip() and not self.owner.strip():
            raise ValueError("a waiver needs an owner")
        return self

    @property
    def waived(self) -> bool:
        """Whether there is a waiver with a reason."""
        return bool(self.waiver.strip())


def parse_answers(document: Mapping[str, Any], source: str) -> dict[str, Answer]:
    """Return the answers by the item's id. Raises `UsageError` naming `source`, the item and the key."""
    answers = {}
    for item, value in document.items():
        try:
            answers[str(item)] = Answer.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in (item, *first["loc"]))
            raise UsageError(
                f"{source}: {key}: {first['msg']}. An answer has: {', '.join(Answer.model_fields)}"
            ) from None
    return answers
