"""The seven questions, as data: text, choices with help, and why each is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safedl.errors import UsageError, nearest


@dataclass(frozen=True)
class Choice:
    """One possible answer: `value` stands in the profile, `help` says what it means."""

    value: str
    help: str


@dataclass(frozen=True)
class Question:
    """A single-choice question; `id` is its key in the profile's `threat_model`."""

    id: str
    text: str
    why: str
    choices: tuple[Choice, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """The values that answer the question."""
        return tuple(choice.value for choice in self.choices)


QUESTIONS: tuple[Question, ...] = (
    Question(
        "model_access",
        "What can an attacker see of the model?",
        "Decides how probable an attack is, and whether a planted backdoor must be expected.",
        (
            Choice("white-box", "Architecture and weights: a published model, a supplier, an insider."),
            Choice("gray-box", "Parts of it, such as the architecture or the kind of training data."),
            Choice("black-box", "Only what it answers."),
        ),
    ),
    Question(
        "attack_goal",
        "What would an attacker want?",
        "Decides whether the simulated attacks aim at one class or at accuracy as a whole.",
        (
            Choice("targeted", "One particular wrong answer: a stop sign taken for another sign."),
            Choice("untargeted", "Any wrong answer: a model that cannot be relied on."),
        ),
    ),
    Question(
        "deployment_scenario",
        "Where will the model run?",
        "Where anyone can hand it images, crafted images must be expected.",
        (
            Choice("cloud", "On servers that you control, behind your own application."),
            Choice("edge", "On devices in the field: cameras, vehicles, gateways."),
            Choice("mobile", "In an app on people's phones."),
            Choice("api_public", "Behind an interface that anyone may call."),
            Choice("on_device", "Built into a product, without a connection."),
        ),
    ),
    Question(
        "data_sensitivity",
        "How sensitive are the training images?",
        "Sensitive images must not be recoverable from the model.",
        (
            Choice("high", "Personal, medical or secret."),
            Choice("medium", "Internal; a leak would be unpleasant."),
            Choice("low", "Public, or harmless."),
        ),
    ),
    Question(
        "training_data_source",
        "Where do the training images come from?",
        "Whoever supplies images or labels can poison them.",
        (
            Choice("internal_clean", "Collected and checked by your own team."),
            Choice("external_public", "Public data sets, or images from the internet."),
            Choice("user_generated", "Uploaded or labelled by users."),
            Choice("mixed", "Some of each."),
        ),
    ),
    Question(
        "model_type",
        "What kind of model is it?",
        "Chooses the architecture, and which layers the defenses can work on.",
        (
            Choice("cnn", "A convolutional network."),
            Choice("transformer", "A vision transformer."),
            Choice("mlp", "Fully connected layers only."),
            Choice("other", "Something else, or not decided."),
        ),
    ),
    Question(
        "interface_exposed",
        "How do others reach the model?",
        "Someone who can ask it often can copy it, or find out what it was trained on.",
        (
            Choice("api", "Through a network interface."),
            Choice("local_app", "Through an application on their own machine."),
            Choice("sdk", "As a library in their own programs."),
            Choice("none", "Not at all."),
        ),
    ),
)


def check_answers(answers: Mapping[str, Any], origin: str) -> dict[str, str]:
    """Return the seven answers in the questions' order; other keys of `answers` are left out.

    Raises `UsageError` that names `origin` and every answer that is missing or not among the choices.
    """
    problems, checked = [], {}
    for question in QUESTIONS:
        answer = answers.get(question.id)
        if answer in question.values:
            checked[question.id] = str(answer)
            continue
        said = "no answer" if answer is None else f"{str(answer)[:60]!r} is no answer"
        hint = "" if answer is None else nearest(str(answer), question.values)
        problems.append(f"{origin}: {question.id}: {said}; choose one of {', '.join(question.values)}.{hint}")
    if problems:
        raise UsageError("\n".join(problems))
    return checked
