from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from safedl.cache import ArtifactCache
from safedl.catalog.settings import TrainingSettings
from safedl.data.imageset import Dataset, ImageSet
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.progress import Cancelled, Progress
from safedl.training import predict
from safedl.training.augment import augment
from safedl.training.precision import resolve
from safedl.training.workbench import NamedLoss, NamedObjective, Workbench, model_digest

CPU = torch.device("cpu")


def small(digits: Dataset) -> ImageSet:
    return digits.train.select(torch.arange(200))


def test_digits_are_learned(digits: Dataset, bench: Workbench, clean_model: Classifier) -> None:
    logits = bench.predict(clean_model, digits.test.images)
    assert predict.accuracy(logits, digits.test.labels) >= 0.97


def test_same_seed_gives_the_same_model_and_another_seed_another(digits: Dataset, bench: Workbench) -> None:
    data = small(digits)
    first, second = bench.fit(data, epochs=2), bench.fit(data, epochs=2)
    other = bench.fit(data, epochs=2, seed=1)
    assert model_digest(first) == model_digest(second) != model_digest(other)


def test_global_generator_is_left_alone(digits: Dataset, bench: Workbench) -> None:
    before = torch.get_rng_state()
    bench.fit(small(digits), epochs=1, augment="shift_flip")
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_stage_asks_for_twice_costs_once(digits: Dataset, bench: Workbench, tmp_path: Path) -> None:
    """A scan of 40 seconds was said to have taken 46: it trained a model, and counted it again when it came back."""
    data = small(digits)
    maker, other = (replace(bench, cache=ArtifactCache(tmp_path)) for _ in range(2))
    model = maker.fit(data, epochs=2)
    maker.fit(data, epochs=2)
    maker.features(model, data.images)
    maker.features(model, data.images)
    assert maker.spared == 0
    other.features(other.fit(data, epochs=2), data.images)
    once = other.spared
    other.features(other.fit(data, epochs=2), data.images)
    assert other.spared == once > 0


def test_cached_fit_equals_a_fresh_one(digits: Dataset, bench: Workbench, tmp_path: Path) -> None:
    data = small(digits)
    made = replace(bench, cache=ArtifactCache(tmp_path)).fit(data, epochs=2)
    cached = replace(bench, cache=ArtifactCache(tmp_path))
    taken = cached.fit(data, epochs=2)
    assert model_digest(made) == model_digest(taken) == model_digest(bench.fit(data, epochs=2))
    assert cached.spared > 0
    other = cached.fit(data.with_labels(data.labels.roll(1)), epochs=2)
    assert model_digest(other) != model_digest(made)
    assert model_digest(cached.fit(data, epochs=2, seed=1)) != model_digest(made)
    smooth = NamedLoss("smooth", lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1))
    assert model_digest(cached.fit(data, epochs=2, loss=smooth)) != model_digest(made)


def test_a_training_that_diverges_is_no_model(digits: Dataset, bench: Workbench) -> None:
    """A network of NaN answers class 0 to everything: an ASR of 0 for any other target."""
    settings = {"optimizer": "sgd", "schedule": "constant", "weight_decay": 1.0}
    with pytest.raises(UsageError, match=r"training diverged in epoch \d.*training\.learning_rate"):
        bench.fit(small(digits), epochs=20, batch_size=16, learning_rate=10, **settings)


def test_nan_is_no_answer(digits: Dataset, bench: Workbench, clean_model: Classifier) -> None:
    model = copy.deepcopy(clean_model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = math.nan
    with pytest.raises(UsageError, match="answers with NaN"):
        bench.predict(model, digits.test.images)


def test_predictions_are_those_of_eval_mode_whatever_the_mode(
    digits: Dataset, bench: Workbench, clean_model: Classifier
) -> None:
    images = digits.test.images[:50]
    before = bench.predict(clean_model.eval(), images)
    assert torch.equal(bench.predict(clean_model.train(), images), before)


def test_cancel_stops_within_a_step(digits: Dataset, bench: Workbench) -> None:
    class StopAtThree(Progress):
        steps = 0

        def step(self, phase: str, done: int, total: int) -> None:
            self.steps += 1
            if self.steps == 3:
                raise Cancelled

    progress = StopAtThree()
    with pytest.raises(Cancelled):
        replace(bench, progress=progress).fit(small(digits), epochs=5)
    assert progress.steps == 3


def test_features_feed_the_head(digits: Dataset, bench: Workbench, clean_model: Classifier) -> None:
    images = digits.test.images[:50]
    features = bench.features(clean_model, images)
    head = clean_model.layer(clean_model.head)
    with torch.no_grad():
        assert torch.allclose(head(features), bench.predict(clean_model, images), atol=1e-5)


def test_class_accuracy_agrees_with_a_loop() -> None:
    logits = torch.eye(4)[torch.tensor([0, 1, 1, 2, 0, 2])]
    labels = torch.tensor([0, 1, 2, 2, 1, 2])
    found = predict.class_accuracy(logits, labels, 4)
    for label in range(3):
        member = labels == label
        assert found[label] == (logits.argmax(1)[member] == label).float().mean()
    assert found[3].isnan()


def test_shift_moves_images_and_repeats_edges() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).repeat(64, 1, 1, 1)
    moved = augment(images, "shift", rng)
    assert moved.shape == images.shape
    rows = {tuple(m[0, :, 0].tolist()) for m in moved}
    allowed = {tuple(4 * min(max(r + d, 0), 3) + c for r in range(4)) for d in (-1, 0, 1) for c in (0, 1)}
    assert rows <= allowed
    assert len(rows) == 6


def test_a_shift_reaches_an_eighth_of_each_side() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 1, 16, 24, dtype=torch.uint8)
    images[:, :, 8, 12] = 255
    moved = augment(images, "shift", rng).squeeze(1).nonzero()
    assert moved[:, 1].unique().tolist() == [6, 7, 8, 9, 10]
    assert moved[:, 2].unique().tolist() == [9, 10, 11, 12, 13, 14, 15]


def test_half_of_the_images_are_mirrored_left_to_right_and_none_top_to_bottom() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 1, 16, 16, dtype=torch.uint8)
    images[:, :, 4, 3] = 255
    moved = augment(images, "shift_flip", rng).squeeze(1).nonzero()
    assert ((moved[:, 1] >= 2) & (moved[:, 1] <= 6)).all()
    assert float((moved[:, 2] > 8).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert set(moved[:, 2].tolist()) == {1, 2, 3, 4, 5, 10, 11, 12, 13, 14}


@pytest.mark.parametrize(("kind", "same"), [("none", True), ("shift", False)])
def test_training_sees_augmented_images(digits: Dataset, bench: Workbench, kind: str, same: bool) -> None:
    seen: list[Tensor] = []

    def watch(model: Classifier, images: Tensor, labels: Tensor, _rng: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(images)
        logits = model(images)
        return logits, F.cross_entropy(logits, labels)

    data = small(digits)
    bench.fit(data, epochs=1, batch_size=50, augment=kind, objective=NamedObjective("watch", watch))
    known = {tuple(image.flatten().tolist()) for image in data.images}
    found = (torch.cat(seen).flatten(1) * 255).round().int()
    assert all(tuple(image.tolist()) in known for image in found) == same


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimisers_get_what_the_recipe_says(digits: Dataset, bench: Workbench, kind: str) -> None:
    data, decay, rate = small(digits), 0.3, 0.01
    reference = bench.build(0).train()
    made: torch.optim.Optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, rate, momentum=0.5, weight_decay=decay),
        "adam": lambda p: torch.optim.Adam(p, rate, weight_decay=decay),
        "adamw": lambda p: torch.optim.AdamW(p, rate, weight_decay=decay),
    }[kind](list(reference.parameters()))
    for chosen in torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).split(50):
        made.zero_grad()
        F.cross_entropy(reference(data.images[chosen].float() / 255), data.labels[chosen]).backward()
        made.step()
    fitted = bench.fit(
        data, epochs=1, batch_size=50, learning_rate=rate, optimizer=kind, momentum=0.5, weight_decay=decay,
        schedule="constant", precision="float32",
    )  # fmt: skip
    start, exact, found = (
        torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (bench.build(0), reference, fitted)
    )
    assert float((found - exact).norm() / (exact - start).norm()) < 0.01


def test_float32_is_never_lowered() -> None:
    assert resolve("float32", CPU) == "float32"
    assert resolve("bfloat16", CPU) == "bfloat16"


def test_steps_are_those_of_adam(digits: Dataset, bench: Workbench) -> None:
    """Against the formulas of Kingma and Ba (2015), in float64, on a network with convolutions in channels-last."""
    data = small(digits)
    start = bench.build(0)
    weights = {name: p.detach().double() for name, p in start.named_parameters()}
    first, second = ({name: torch.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    reference = copy.deepcopy(start).double().train()
    epochs, batch, rate = 2, 50, 1e-3
    order = torch.Generator().manual_seed(0)
    batches = [chosen for _ in range(epochs) for chosen in torch.randperm(len(data), generator=order).split(batch)]
    for step, chosen in enumerate(batches):
        loss = F.cross_entropy(reference(data.images[chosen].double() / 255), data.labels[chosen])
        slopes = torch.autograd.grad(loss, list(reference.parameters()))
        now = rate * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        with torch.no_grad():
            for (name, weight), slope in zip(reference.named_parameters(), slopes, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * slope
                second[name] = 0.999 * second[name] + 0.001 * slope**2
                mean, square = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
                weight.sub_(now * mean / (square.sqrt() + 1e-8))
    fitted = bench.fit(
        data, epochs=epochs, batch_size=batch, learning_rate=rate, optimizer="adam", schedule="cosine",
        precision="float32",
    )  # fmt: skip
    moved, apart = [], []
    for (name, weight), exact in zip(fitted.named_parameters(), reference.parameters(), strict=True):
        apart.append((weight.double() - exact).detach().flatten())
        moved.append((exact.detach() - weights[name]).flatten())
    assert float(torch.cat(apart).norm() / torch.cat(moved).norm()) < 0.05


@pytest.mark.parametrize("count", [65, 64, 33, 2])
def test_no_image_is_left_out_however_many_there_are(digits: Dataset, bench: Workbench, count: int) -> None:
    seen: list[int] = []

    class Watching(Progress):
        def step(self, phase: str, done: int, total: int) -> None:
            assert done <= total
            self.last = (done, total)

    def counting(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(len(labels))
        return F.cross_entropy(logits, labels)

    progress = Watching()
    data = digits.train.select(torch.arange(count))
    replace(bench, progress=progress).fit(data, epochs=2, batch_size=32, loss=NamedLoss("counting", counting))
    assert sum(seen) == 2 * count and min(seen) > 1
    assert progress.last == (len(seen), len(seen))


def test_batches_of_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="batch_size"):
        TrainingSettings(batch_size=1)
