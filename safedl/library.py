"""Single methods for one's own tensors and modules: no profile, no workspace, nothing is stored."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from safedl import catalog
from safedl.attacks import load_poison
from safedl.attacks.contract import AttackContext, Poisoning
from safedl.catalog.settings import SEEDS, TrainingSettings
from safedl.data.arrays import from_mapping, to_labels, to_tensor
from safedl.data.imageset import ImageSet
from safedl.defenses import load
from safedl.defenses.contract import Detection, Repaired, Scenario
from safedl.errors import UsageError, in_a_line
from safedl.models.build import check_gradient, initialise, prepare, uncompiled
from safedl.models.classifier import Classifier
from safedl.models.dropout import restore_dropout
from safedl.profile.problems import Problem, quoted, validate
from safedl.training.workbench import Workbench

Schema = TypeVar("Schema", bound=BaseModel)

SPARSE_CLASSES = 100_000
"""More classes than these need samples to match: their number is taken from the largest label."""


def poison(
    images: Any,
    labels: Any,
    attack: str,
    *,
    model: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **params: Any,
) -> Poisoning:
    """Poison a training set by an attack of the catalog (`safedl list attacks`), and tell what was done to it.

    `images`: tensor [N, C, H, W] or array [N, H, W(, C)], uint8 or floats in [0, 1]; `labels`: [N], 0 to K - 1, each
    at least once. `model` is one trained on them, for attacks that need it; for it, `mean` and `std` see `repair`.
    `params` are the attack's own. Raises `UsageError` for whatever cannot be used, naming it.
    """
    spec = catalog.attack(_method(attack, "poison"))
    if spec.category not in ("data_poisoning", "backdoor"):
        raise UsageError(f"poison: {spec.name} attacks at test time; it poisons no training data")
    seed, place = _seed(seed, "poison"), _device(device, "poison")
    data, num_classes = _image_set(images, labels, "poison")
    checked = _check(spec.params, params, spec.name, num_classes)
    clean = None
    if spec.needs_clean_model:
        if model is None:
            raise UsageError(f"poison: {spec.name} needs a model trained on these images: give it as model=")
        clean = _classifier(uncompiled(model), data, num_classes, mean, std, seed, "poison")
    rng = torch.Generator().manual_seed(seed)
    return load_poison(spec)(data, checked, AttackContext(rng, num_classes, place, clean))


def detect(
    features: Any,
    labels: Any,
    detector: str,
    *,
    trusted_features: Any = None,
    trusted_labels: Any = None,
    seed: int = 0,
    **params: Any,
) -> Detection:
    """Look for poison in features that some model gave, by a detector that needs nothing else.

    `features`: [N, D], as from a penultimate layer; `labels`: [N], the classes given, 0 to K - 1. With the features
    [M, D] and labels [M] of samples known to be clean most detectors see more; some take at least ten a class.
    `params` are the detector's own. Raises `UsageError` for whatever cannot be used, naming it.
    """
    spec = catalog.defense(_method(detector, "detect"))
    if not spec.from_features:
        able = ", ".join(d.name for d in catalog.DEFENSES.values() if d.from_features)
        raise UsageError(f"detect: {spec.name} needs more than features; those that do not: {able}")
    if (trusted_features is None) != (trusted_labels is None):
        raise UsageError("detect: trusted_features and trusted_labels must come together")
    seed = _seed(seed, "detect")
    values, given = _features(features, labels, "detect: features")
    if trusted_features is None:
        known, known_labels = values[:0], given[:0]
    else:
        known, known_labels = _features(trusted_features, trusted_labels, "detect: trusted_features")
    if known.shape[1] != values.shape[1]:
        raise UsageError(f"detect: {values.shape[1]} features a sample, but {known.shape[1]} a trusted one")
    num_classes = _count_classes(torch.cat([given, known_labels]))
    checked = _check(spec.params, params, spec.name, num_classes)
    bench = Workbench(_no_model, "", TrainingSettings(), torch.device("cpu"), seed)
    scenario = FeatureScenario(
        data=_without_pixels(given), trusted=_without_pixels(known_labels), classes=_numbers(num_classes),
        model=cast(Classifier, None), bench=bench, own=values, own_trusted=known,
    )  # fmt: skip
    found: Detection = load(spec)(scenario, checked)
    return found


def repair(
    module: nn.Module,
    trusted_images: Any,
    trusted_labels: Any,
    defense: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    training: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **params: Any,
) -> Repaired:
    """Mend a copy of a classifier that may have a backdoor, with images known to be clean; `module` stays as it is.

    The mended module is `.model.net` of the result, with the layers and `requires_grad` of yours, in eval mode; all its
    parameters may have been trained. `.model` itself takes images in [0, 1]. `module` gives logits
    [N, K], its last layer is `torch.nn.Linear`; it takes images in [0, 1], or such minus `mean` over `std` (one value
    per channel). Images and labels are as for `poison`, with samples of all K classes. `fresh` makes an untrained
    module, for defenses that train one to compare with; without it the layers' own `reset_parameters` do.
    `training` is a recipe as in a profile (`{"epochs": 20}`). Methods that would look at training images are shown
    the trusted ones. `params` are the defense's own. Raises `UsageError` for whatever cannot be used, naming it.
    """
    spec = catalog.defense(_method(defense, "repair"))
    if spec.kind != "repair":
        able = ", ".join(d.name for d in catalog.DEFENSES.values() if d.kind == "repair")
        raise UsageError(f"repair: {spec.name} does not mend a model; those that do: {able}")
    seed, place = _seed(seed, "repair"), _device(device, "repair")
    module = uncompiled(module)
    if not isinstance(training, Mapping | None):
        raise UsageError(f'repair: training is {quoted(training)}; give a mapping as in a profile, {{"epochs": 20}}')
    if fresh is not None and not callable(fresh):
        raise UsageError("repair: fresh must be a function that makes an untrained module, as lambda: MyNet()")
    data, num_classes = _image_set(trusted_images, trusted_labels, "repair")
    checked = _check(spec.params, params, spec.name, num_classes)
    recipe = _check(TrainingSettings, training or {}, "training", num_classes)

    def build(own_seed: int) -> Classifier:
        made = initialise(lambda: fresh() if fresh else _reset(module), own_seed)
        return _classifier(made, data, num_classes, mean, std, own_seed, "repair")

    model = _classifier(module, data, num_classes, mean, std, seed, "repair")
    bench = Workbench(build, "", recipe, place, seed)
    scenario = Scenario(data, data, _numbers(num_classes), model, bench)
    found: Repaired = load(spec)(scenario, checked)
    _as_given(found.model.net, module)
    return found


@dataclass(frozen=True, kw_only=True)
class FeatureScenario(Scenario):
    """A scenario of features alone: there are labels, but neither pixels nor a model."""

    own: Tensor
    own_trusted: Tensor

    def features(self) -> Tensor:
        """Return the features float32 [N, D] that were given."""
        return self.own

    def trusted_features(self) -> Tensor:
        """Return the trusted features float32 [M, D] that were given."""
        return self.own_trusted


def _image_set(images: Any, labels: Any, where: str) -> tuple[ImageSet, int]:
    raw = from_mapping({"x_train": images, "y_train": labels}, where)
    return raw.train, len(raw.classes)


def _features(values: Any, labels: Any, where: str) -> tuple[Tensor, Tensor]:
    """Return features float32 [N, D] and labels int64 [N] on the CPU."""
    features = to_tensor(values, where).float()
    own = where.replace("features", "labels")
    given, names = to_labels(labels, None, own)
    if names:
        raise UsageError(f"{own}: labels must be whole numbers 0 to K - 1, not texts as '{names[0]}'")
    if features.ndim == 2 and not features.shape[1]:
        raise UsageError(f"{where}: there are no features in shape {list(features.shape)}; give one or more a sample")
    if features.ndim != 2 or given.shape != features.shape[:1] or not len(given):
        raise UsageError(
            f"{where}: expected [N, D] and N labels, not {list(features.shape)} and {list(given.shape)} labels"
        )
    if not features.isfinite().all():
        raise UsageError(f"{where}: some are not finite")
    return features, given


def _count_classes(labels: Tensor) -> int:
    """Return one more than the largest label. Raises `UsageError` where that is no number of classes."""
    count = int(labels.max()) + 1
    if count > max(SPARSE_CLASSES, 10 * len(labels)):
        raise UsageError(
            f"detect: a label of {count - 1} makes {count} classes for {len(labels)} samples; number the classes anew, "
            "0 to K - 1, as torch.unique(labels, return_inverse=True)[1] does"
        )
    return count


def _method(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise UsageError(f"{where}: {quoted(name)} names no method; give its name as text")
    return name


def _seed(seed: Any, where: str) -> int:
    """Return a seed that every generator takes."""
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < SEEDS:
        raise UsageError(f"{where}: seed is {quoted(seed)}; give a whole number from 0 to {SEEDS - 1}")
    return number


def _device(device: Any, where: str) -> torch.device:
    """Return a device that can be computed on here."""
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).tolist()
    except Exception as error:  # an unknown name, no driver, a number too many, a build without it
        raise UsageError(
            f"{where}: device {quoted(str(device))} cannot be used here; give cpu, or cuda or cuda:N if there is a GPU"
        ) from error
    return place


def _per_channel(values: Any, name: str, default: float, channels: int, where: str) -> list[float]:
    """Return `mean` or `std` as plain numbers: an array's own would change the type of the images."""
    try:
        found = [default] * channels if values is None else [float(value) for value in values]
    except (TypeError, ValueError):
        raise UsageError(
            f"{where}: {name} must be a list of numbers, one for each of the {channels} channels, "
            f"not {type(values).__name__}"
        ) from None
    if len(found) != channels:
        raise UsageError(
            f"{where}: mean and std need one value for each of the {channels} channels; {name} has {len(found)}"
        )
    kept = torch.tensor(found, dtype=torch.float32).tolist()  # as the model keeps them: 1e-60 becomes 0
    wrong = [v for v, k in zip(found, kept, strict=True) if not math.isfinite(k) or (name == "std" and k <= 0)]
    if wrong:
        must = "finite and above 0, as images are divided by it" if name == "std" else "finite"
        raise UsageError(f"{where}: {name} has {wrong[0]:g}; it must be {must}")
    return found


def _classifier(
    module: nn.Module, data: ImageSet, num_classes: int, mean: Sequence[float] | None, std: Sequence[float] | None,
    seed: int, where: str,
) -> Classifier:  # fmt: skip
    """Return a copy of a module as a classifier, in eval mode."""
    if not isinstance(module, nn.Module):
        raise UsageError(f"{where}: the model must be a torch.nn.Module, not {type(module).__name__}")
    channels, height, width = data.images.shape[1:]
    centre = _per_channel(mean, "mean", 0.0, channels, where)
    spread = _per_channel(std, "std", 1.0, channels, where)
    try:
        net = copy.deepcopy(module).cpu().eval().requires_grad_(True)
        prepare(net, seed)
        model = Classifier(net, centre, spread, (channels, height, width)).eval()
        # Of a copy: what a module keeps of a pass with gradients cannot be copied any more.
        logits = model.clone()(torch.full((2, channels, height, width), 0.5))
    except UsageError:
        raise
    except Exception as error:  # the module may fail in any way
        raise UsageError(
            f"{where}: the module fails on images {list(data.images.shape[1:])}: {in_a_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"{where}: the module gives {found} for two images, and the labels have {num_classes} classes")
    check_gradient(logits, f"{where}: the module")
    return model


def _as_given(net: nn.Module, module: nn.Module) -> None:
    """Give a mended copy of a module its own kinds of layers and flags back: what `prepare` and training changed."""
    restore_dropout(net, module)
    layers = dict(module.named_modules(remove_duplicate=False))
    for name, layer in net.named_modules():
        if name in layers and getattr(layers[name], "inplace", False) is True:
            layer.inplace = True
    weights = dict(module.named_parameters(remove_duplicate=False))
    for name, weight in net.named_parameters():
        weight.requires_grad_(weights[name].requires_grad if name in weights else True)


def _reset(module: nn.Module) -> nn.Module:
    """Return a copy of a module with its weights drawn anew. Raises `UsageError` for a layer that does not know how."""
    made = copy.deepcopy(module)
    for name, layer in made.named_modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
        elif next(layer.parameters(recurse=False), None) is not None:
            raise UsageError(
                f"repair: this defense trains a fresh model, and layer '{name}' ({type(layer).__name__}) has no "
                "reset_parameters(); give fresh=, a function that makes an untrained module"
            )
    return made


def _check(schema: type[Schema], values: Mapping[str, Any], name: str, num_classes: int) -> Schema:
    """Return checked parameters. Raises `UsageError` with one line for each that is wrong."""
    problems: list[Problem] = []
    checked = validate(
        schema, values, name, problems, what=f"parameter of {name}", others={}, context={"num_classes": num_classes}
    )
    if checked is None:
        raise UsageError("\n".join(f"{problem.path}: {problem.message}" for problem in problems))
    return checked


def _without_pixels(labels: Tensor) -> ImageSet:
    return ImageSet(torch.zeros(len(labels), 1, 0, 0, dtype=torch.uint8), labels)


def _no_model(_seed: int) -> NoReturn:
    raise UsageError("detect: there are features alone, no model can be trained")


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
