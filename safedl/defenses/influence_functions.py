"""How much each training sample helps or harms trusted data (Koh, Liang, ICML 2017).

A step that fits a sample changes a trusted loss by minus the product of both gradients. For all samples these
products are one directional derivative of their losses, so one forward-mode pass gives them exactly. With the inverse
Hessian, of the last layer, the product tells what happens after training to the end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, jvp

from safedl.catalog.defenses.poisoning import InfluenceFunctionsParams
from safedl.data.imageset import ImageSet
from safedl.data.split import by_class
from safedl.defenses.contract import Detection, Scenario
from safedl.defenses.trusted import judged, require_trusted
from safedl.models.classifier import Classifier
from safedl.training.fit import to_float
from safedl.training.predict import BATCH
from safedl.training.workbench import FORWARD_AD_LOCK

FALSE_ALARM = 0.01
"""Share of trusted samples whose harm may exceed the threshold."""
SIGMAS = 2.0
ITERATIONS = 200
TOLERANCE = 1e-4

Gradient = dict[str, Tensor]


def detect(scenario: Scenario, params: InfluenceFunctionsParams) -> Detection:
    """Score each sample by its harm to the trusted loss. Raises `UsageError` if there is no trusted data."""
    require_trusted(scenario, "influence_functions", "leave this defense out", fewest=2)
    if scenario.clean_model is None:
        raise ValueError("influence_functions needs the clean model")
    model = scenario.clean_model()
    trusted = _subsample(scenario, params.sample_size)
    harm = _harm(scenario, model, trusted, scenario.data, params)
    details = {"method": params.method, "sample_size": params.sample_size, "trusted_used": len(trusted)}
    if params.variant == "literal":
        scores = harm.abs()
        cut = float(scores.mean() + SIGMAS * scores.std(correction=0))
        return Detection(scores, scores > cut, {**details, "threshold": cut})
    half = torch.randperm(len(trusted), generator=scenario.rng("influence halves")) % 2 == 0
    one, other = trusted.select(half), trusted.select(~half)
    # Each half is judged by the other, as the training samples are judged by data that is not theirs.
    usual = torch.cat([_harm(scenario, model, a, b, params) for a, b in ((one, other), (other, one))])
    cut = float(usual.quantile(1 - FALSE_ALARM).clamp_min(0))
    return Detection(harm, (harm > cut) & judged(scenario), {**details, "threshold": cut}, usual)


def mean_gradient(model: Classifier, data: ImageSet, device: torch.device) -> Gradient:
    """Return the gradient of the mean cross-entropy over `data` with respect to each weight, in eval mode.

    It is 0 for what training leaves alone: frozen weights, and those of layers that the network does not use.
    """
    weights = dict(model.eval().named_parameters())
    total = {name: torch.zeros_like(w) for name, w in weights.items()}
    trained = {name: w for name, w in weights.items() if w.requires_grad}
    for start in range(0, len(data), BATCH):
        part = slice(start, start + BATCH)
        loss = F.cross_entropy(
            model(to_float(data.images[part], device)), data.labels[part].to(device), reduction="sum"
        )
        gradients = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
        for name, gradient in zip(trained, gradients, strict=True):
            total[name] += gradient / len(data)
    return total


def directional_derivatives(
    model: Classifier,
    direction: Gradient,
    data: ImageSet,
    device: torch.device,
    step: Callable[[int], None] = lambda _done: None,
) -> Tensor:
    """Return the product of each sample's loss gradient with `direction`, float [N], by forward-mode AD."""
    weights = {name: w.detach() for name, w in model.eval().named_parameters()}
    buffers = dict(model.named_buffers())
    products = torch.empty(len(data))
    for start in range(0, len(data), BATCH):
        images = to_float(data.images[start : start + BATCH], device)
        labels = data.labels[start : start + BATCH].to(device)

        def losses(at: Gradient, images: Tensor = images, labels: Tensor = labels) -> Tensor:
            return F.cross_entropy(functional_call(model, {**at, **buffers}, (images,)), labels, reduction="none")

        with FORWARD_AD_LOCK, torch.no_grad():
            products[start : start + BATCH] = jvp(losses, (weights,), (direction,))[1]
        step(min(start + BATCH, len(data)))
    return products


def _harm(
    scenario: Scenario, model: Classifier, judge: ImageSet, data: ImageSet, params: InfluenceFunctionsParams
) -> Tensor:
    """Return the harm of each sample of `data` to the loss of `judge`, float [N].

    Over all classes at once (the literal variant) harm to one and help to another cancel; so the paper's variant
    looks at the class harmed most in the last layer, or over all weights at the class that the sample looks like.
    Classes count alike, however large the loss on them is: their gradients are scaled to one length.
    """
    whole = params.variant == "literal"
    parts = [judge] if whole else [judge.select(judge.labels == c) for c in judge.labels.unique().tolist()]
    if params.method == "hessian_inverse":
        return _head_harms(scenario, model, parts, data, params.damping).amax(1)
    if whole:
        return -_products(scenario, model, judge, data)
    rivals = scenario.bench.predict(model, data.images).scatter(1, data.labels.unsqueeze(1), -torch.inf).argmax(1)
    harm = torch.zeros(len(data))
    for part in parts:
        members = rivals == part.labels[0]
        if members.any():
            harm[members] = -_products(scenario, model, part, data.select(members), unit=True)
    return harm


def _products(scenario: Scenario, model: Classifier, judge: ImageSet, data: ImageSet, unit: bool = False) -> Tensor:
    """Return the product of each sample's gradient with that of `judge` (of length 1 if `unit`), float [N]."""
    bench = scenario.bench
    direction = mean_gradient(model.to(bench.device), judge, bench.device)
    if unit:
        length = torch.stack([g.square().sum() for g in direction.values()]).sum().sqrt().clamp_min(1e-12)
        direction = {name: g / length for name, g in direction.items()}

    def step(done: int) -> None:
        bench.progress.step("influence", done, len(data))

    return directional_derivatives(model, direction, data, bench.device, step)


def _head_harms(
    scenario: Scenario, model: Classifier, judges: list[ImageSet], data: ImageSet, damping: float
) -> Tensor:
    """Return the harm of each sample to each of the `judges`, float [N, J], by the last layer's inverse Hessian.

    In units of the judges' own: the norm of their gradient under the inverse Hessian.
    """
    features, probabilities, _ = _head_view(scenario, model, scenario.data)
    inputs, outputs, labels = _head_view(scenario, model, data)
    errors = outputs - F.one_hot(labels, outputs.shape[1])
    found = []
    for number, judge in enumerate(judges):
        target = _head_gradient(*_head_view(scenario, model, judge))
        solution = inverse_hessian_product(features, probabilities, target, damping)
        solution = solution / (target * solution).sum().sqrt().clamp_min(1e-12)
        found.append(-((inputs @ solution) * errors).sum(1).float())
        scenario.bench.progress.step("influence", number + 1, len(judges))
    return torch.stack(found, 1)


def inverse_hessian_product(features: Tensor, probabilities: Tensor, target: Tensor, damping: float) -> Tensor:
    """Return (H + damping I)^-1 target by conjugate gradients, float64 [D, K].

    H is the Hessian of the mean cross-entropy with respect to the last layer's weights [D, K]; it depends on its
    inputs `features` [N, D] and outputs `probabilities` [N, K] alone, and is never formed.
    """

    def product(v: Tensor) -> Tensor:
        change = features @ v
        mean = (probabilities * change).sum(1, keepdim=True)
        return features.T @ (probabilities * (change - mean)) / len(features) + damping * v

    solution = torch.zeros_like(target)
    residual = target.clone()
    search = residual.clone()
    size = residual.square().sum()
    enough = TOLERANCE**2 * size
    for _ in range(ITERATIONS):
        if size <= enough:
            break
        image = product(search)
        rate = size / (search * image).sum()
        solution += rate * search
        residual -= rate * image
        previous, size = size, residual.square().sum()
        search = residual + size / previous * search
    return solution


def _head_view(scenario: Scenario, model: Classifier, data: ImageSet) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last layer's inputs with a constant [N, D + 1], probabilities [N, K] (float64), and labels [N]."""
    features = F.pad(scenario.bench.features(model, data.images).double(), (0, 1), value=1.0)
    probabilities = scenario.bench.predict(model, data.images).double().softmax(1)
    return features, probabilities, data.labels


def _head_gradient(features: Tensor, probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy with respect to the last layer's weights, float64 [D, K]."""
    errors = probabilities - F.one_hot(labels, probabilities.shape[1])
    return features.T @ errors / len(features)


def _subsample(scenario: Scenario, most: int) -> ImageSet:
    """Return at most `most` trusted samples, the same number of each class as far as they go, and one at least."""
    trusted = scenario.trusted
    if len(trusted) <= most:
        return trusted
    share = dict.fromkeys(range(scenario.num_classes), max(1, most // scenario.num_classes))
    return trusted.select(by_class(trusted.labels, share, scenario.rng("influence sample")))
