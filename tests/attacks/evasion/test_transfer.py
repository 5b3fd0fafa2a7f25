from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from safedl.attacks.evasion import fgsm, pgd, transfer
from safedl.catalog.attacks.evasion import FgsmParams, PgdParams, TransferParams
from safedl.models.classifier import Classifier
from tests.attacks.evasion.helpers import context, linear


def test_images_are_those_made_for_the_substitute_and_the_model_is_never_asked(
    clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    wanted: list[tuple[str, Mapping[str, Any]]] = []

    def substitute(name: str, params: Mapping[str, Any]) -> Classifier:
        wanted.append((name, params))
        return clean_model

    class Deaf(Classifier):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise AssertionError("asked")

    victim = clean_model.clone()
    victim.__class__ = Deaf
    given = replace(context(num_classes=10), substitute=substitute)
    params = TransferParams(
        attack_method="fgsm", epsilon=0.1, substitute_model={"name": "mlp", "params": {"hidden_size": 16}}
    )
    found = transfer.perturb(victim, images, labels, params, given)
    direct = fgsm.perturb(clean_model, images, labels, FgsmParams(epsilon=0.1), context())
    assert torch.equal(found.images, direct.images)
    assert wanted == [("mlp", {"hidden_size": 16})]
    assert found.queries.tolist() == [0] * len(images)


def test_pgd_goes_on_beyond_the_substitutes_boundary() -> None:
    case = linear(classes=2)
    given = replace(context(), substitute=lambda _name, _params: case.model)
    found = transfer.perturb(case.model, case.images, case.labels, TransferParams(epsilon=0.05), given)
    one = fgsm.perturb(case.model, case.images, case.labels, FgsmParams(epsilon=0.05), context())
    assert torch.allclose(found.images, one.images, atol=1e-6)
    stopped = pgd.perturb(case.model, case.images, case.labels, PgdParams(epsilon=0.05), context())
    assert not torch.allclose(stopped.images, one.images, atol=1e-3)


def test_without_substitutes_it_says_so() -> None:
    case = linear()
    with pytest.raises(ValueError, match="substitute"):
        transfer.perturb(case.model, case.images, case.labels, TransferParams(), context())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "lstm"}, "lstm"),
        ({"name": "mlp", "params": {"hiden_size": 3}}, "hidden_size"),
        ({"name": "mlp", "parms": {}}, "parms"),
        ({"name": "mlp", "params": 3}, "params"),
    ],
)
def test_a_substitute_that_does_not_exist_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TransferParams(substitute_model=wrong)
