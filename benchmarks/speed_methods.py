"""Methods against another way to the same answer: influence by forward mode, and two detectors of another toolbox."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Row, Timing, median, timed
from safedl import catalog
from safedl.attacks.backdoor import static_patch
from safedl.attacks.contract import AttackContext
from safedl.catalog.settings import DatasetSettings, ModelSettings, TrainingSettings
from safedl.data.imageset import Dataset, ImageSet
from safedl.data.load import load
from safedl.defenses import activation_clustering, spectral_signatures
from safedl.defenses.contract import Scenario
from safedl.defenses.influence_functions import Gradient, directional_derivatives, mean_gradient
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.training.fit import to_float
from safedl.training.workbench import Workbench

CPU = torch.device("cpu")
SAMPLES, ONE_BY_ONE, REPEATS = 10_000, 500, 5
PER_CLASS, POISON = 2000, 0.05


def influence(dataset: str, network: str) -> list[Row]:
    """Return what the influence of 10,000 samples on trusted data takes; samples repeat where a set has fewer.

    One sample at a time every sample costs the same, so 500 of them are timed and counted up.
    """
    torch.set_num_threads(1)
    data = load(DatasetSettings(name=dataset, download=False), 0)
    model = build(ModelSettings(name=network), data, 0).eval()
    train = data.train.select(torch.arange(SAMPLES) % len(data.train))
    direction = mean_gradient(model, data.trusted, CPU)
    ours, plain = [], []
    for _ in range(REPEATS):
        forward, took = timed(lambda: directional_derivatives(model, direction, train, CPU))
        ours.append(took)
        single, took = timed(lambda: _one_by_one(model, direction, train.select(torch.arange(ONE_BY_ONE))))
        plain.append(Timing(took.wall * SAMPLES / ONE_BY_ONE, took.cpu * SAMPLES / ONE_BY_ONE))
        if not torch.allclose(forward[:ONE_BY_ONE], single, rtol=1e-3, atol=1e-4 * float(single.abs().max())):
            raise RuntimeError("the two ways disagree")
    fast, slow = median(ours), median(plain)
    name = f"{dataset}, {network}: influence of {SAMPLES:,} samples on trusted data"
    return [
        (f"{name}, by forward mode", f"{fast.cpu:.2f} s", ""),
        (f"{name}, by one gradient per sample (from {ONE_BY_ONE})", f"{slow.cpu:.1f} s", ""),
        (f"{name}: times faster", f"{slow.cpu / fast.cpu:.1f}", "≥ 30"),
    ]


def _one_by_one(model: Classifier, direction: Gradient, data: ImageSet) -> Tensor:
    """Return each sample's gradient times `direction`, float [N], by one backward pass per sample."""
    weights = list(model.parameters())
    directions = [direction[name] for name, _ in model.named_parameters()]
    products = []
    for image, label in zip(data.images.split(1), data.labels.split(1), strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(model(to_float(image, CPU)), label), weights)
        products.append(sum(torch.dot(g.flatten(), d.flatten()) for g, d in zip(gradients, directions, strict=True)))
    return torch.stack([torch.as_tensor(p) for p in products])


def detectors() -> list[Row]:
    """Return what two detectors take, here and in the Adversarial Robustness Toolbox, on the same features.

    Those of Fashion-MNIST under a briefly trained model, one image in twenty with a patch. Reading the features is free
    on both sides. Needs the extra `bench`.
    """
    from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    scenario = _scenario()
    classifier = _stored_features(scenario)
    labels = F.one_hot(scenario.data.labels, scenario.num_classes).numpy()
    images = scenario.data.images.numpy()
    rows: list[Row] = []
    count = len(scenario.data)
    settings = catalog.defense("activation_clustering").params.model_validate({"trusted": False})
    literal = catalog.defense("spectral_signatures").params.model_validate({"trusted": False, "directions": 1})

    def cluster(analysis: str) -> object:
        defense = ActivationDefence(classifier, images, labels)
        return defense.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA", cluster_analysis=analysis)

    def spectrum() -> object:
        defense = SpectralSignatureDefense(classifier, images, labels, expected_pp_poison=POISON, batch_size=512)
        return defense.detect_poison()

    def own_cluster() -> object:
        return activation_clustering.detect(scenario, settings)  # type: ignore[arg-type]

    def own_spectrum() -> object:
        return spectral_signatures.detect(scenario, literal)  # type: ignore[arg-type]

    pairs: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        # The first judges clusters as Safe-DL does, by size and silhouette; the second, its default, by size alone.
        ("activation clustering, theirs by silhouette", own_cluster, partial(cluster, "silhouette-scores")),
        ("activation clustering, theirs by size", own_cluster, partial(cluster, "smaller")),
        ("spectral signatures", own_spectrum, spectrum),
    ]
    for title, own, theirs in pairs:
        ours, other = [], []
        for _ in range(REPEATS):
            ours.append(timed(own)[1])
            other.append(timed(theirs)[1])
        fast, slow = median(ours), median(other)
        name = f"{title}, {count:,} features of {scenario.features().shape[1]}, no trusted data"
        rows += [
            (f"{name}: Safe-DL", f"{fast.cpu:.2f} s", ""),
            (f"{name}: the toolbox", f"{slow.cpu:.2f} s", ""),
            (f"{name}: times faster", f"{slow.cpu / fast.cpu:.1f}", "≥ 2"),
        ]
    return rows


class _Stored(Workbench):
    """A workbench that has the features already."""

    stored: Tensor

    def features(self, model: Classifier, images: Tensor) -> Tensor:
        """Return them."""
        return self.stored


def _scenario() -> Scenario:
    data: Dataset = load(DatasetSettings(name="fashionmnist", subset=PER_CLASS, download=False), 0)
    recipe = TrainingSettings(epochs=1, batch_size=128, learning_rate=0.002)
    bench = _Stored(lambda s: build(ModelSettings(name="cnn"), data, s), "", recipe, CPU, 0)
    params = catalog.attack("static_patch").params.model_validate({"poison_fraction": POISON, "target_class": 7})
    context = AttackContext(torch.Generator().manual_seed(0), len(data.classes), CPU)
    poisoned = static_patch.poison(data.train, params, context).data  # type: ignore[arg-type]
    model = bench.fit(poisoned)
    bench.stored = Workbench.features(bench, model, poisoned.images)
    return Scenario(poisoned, data.trusted, data.classes, model, bench)


def _stored_features(scenario: Scenario) -> Any:
    """Return what the toolbox takes for a classifier: it asks for activations, and gets those that are there."""
    from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found]

    features = scenario.features().numpy().astype(np.float32)
    shape = tuple(scenario.data.images.shape[1:])
    classifier = PyTorchClassifier(
        scenario.model, torch.nn.CrossEntropyLoss(), shape, scenario.num_classes, device_type="cpu"
    )
    classifier.get_activations = lambda *_arguments, **_options: features
    classifier._layer_names = [scenario.model.penultimate]
    return classifier
