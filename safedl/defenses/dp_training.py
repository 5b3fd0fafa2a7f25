"""Train so that no few images decide: DP-SGD (Abadi et al., CCS 2016) by Opacus.

Each image's gradient is clipped, noise is added to their sum, and every step draws each image with the same
probability (Poisson sampling): only then is the privacy spent what the accountant says.
"""

from __future__ import annotations

import importlib.util
import warnings

import torch
import torch.nn.functional as F
from opacus import GradSampleModule, PrivacyEngine
from opacus.optimizers import DPOptimizer
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from safedl.catalog.defenses.poisoning import DpTrainingParams
from safedl.defenses.contract import Scenario, Trained
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.models.dropout import SeededDropout
from safedl.models.follow import noise
from safedl.training.fit import to_float

DEFAULT_BATCH = 1024
AT_ONCE, AT_ONCE_ON_CPU = 256, 32
"""Images whose gradients are held at once, where nobody says: of more, a processor's caches hold too little."""
PRV_UP_TO = 10.0
"""Epsilon up to which the PRV accountant counts, the tightest: for 20 it took 8 to 24 seconds to find the noise, for
100 it did not come to an end. Beyond, the RDP accountant bounds what is spent."""
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Hardswish, nn.Dropout)
"""Layers that may work in place."""


def train(scenario: Scenario, params: DpTrainingParams) -> Trained:
    """Train a fresh model, its BatchNorm layers replaced by GroupNorm, within the privacy budget.

    Raises `UsageError` if epsilon would not be valid or cannot be reached, and for models that Opacus cannot train.
    """
    count = len(scenario.data)
    batch_size = params.batch_size or max(1, min(DEFAULT_BATCH, count // 4))
    _check(params, batch_size, count)
    device = scenario.bench.device
    result = private_ready(scenario.bench.build(scenario.seed)).to(device)
    result = result.to(memory_format=torch.contiguous_format)
    model = _without_unused(_allow_in_place(result).train())
    accountant = "prv" if params.epsilon <= PRV_UP_TO else "rdp"
    engine = PrivacyEngine(accountant=accountant, secure_mode=params.secure_mode)
    # The loader deals in positions: images are taken from the tensor a batch at a time.
    positions = TensorDataset(torch.arange(count))
    loader = DataLoader(positions, batch_size=batch_size, generator=scenario.rng("dp sampling"))
    generator = None if params.secure_mode else _noise_generator(scenario, device)
    try:
        private, optimizer, loader = engine.make_private_with_epsilon(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), params.learning_rate, momentum=params.momentum),
            data_loader=loader,
            target_epsilon=params.epsilon,
            target_delta=params.delta,
            epochs=params.epochs,
            max_grad_norm=params.clip_norm,
            noise_generator=generator,
        )
    except ValueError as error:
        raise UsageError(f"dp_training.epsilon: {params.epsilon} cannot be reached: {error}") from error
    check_sampler(loader)
    empty = _descend(scenario, params, private, optimizer, loader)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spent = float(engine.get_epsilon(params.delta))
    if spent > params.epsilon:
        raise UsageError(f"dp_training.epsilon: {params.epsilon} was asked for, but {spent:.4f} was spent")
    with torch.no_grad():
        for kept, trained in zip(result.parameters(), model.parameters(), strict=True):
            kept.copy_(trained)
    details = {
        "epsilon_target": params.epsilon,
        "delta_target": params.delta,
        "clip_norm": params.clip_norm,
        "epsilon_spent": spent,
        "noise_multiplier": float(optimizer.noise_multiplier),
        "steps": params.epochs * len(loader),
        "batch_size": optimizer.expected_batch_size,  # Opacus divides an epoch into whole steps of equal size
        "empty_batches": empty,
        "sampler": type(loader.batch_sampler).__name__,
        "accountant": engine.accountant.mechanism(),
        "secure_mode": params.secure_mode,
    }
    return Trained(result.eval(), details)


def private_ready(model: Classifier) -> Classifier:
    """Replace what mixes images of a batch (BatchNorm by GroupNorm). Raises `UsageError` where nothing can."""
    fixed = ModuleValidator.fix(model.train())
    errors = ModuleValidator.validate(fixed)
    if errors:
        raise UsageError(f"dp_training: the model cannot be trained privately: {errors[0]}")
    assert isinstance(fixed, Classifier)
    return fixed


def _batch(images: Tensor, device: torch.device) -> Tensor:
    """Return images as floats, channels first, as `model` is too: Opacus gets gradients wrong in any other format."""
    return to_float(images, device).contiguous()


class _Clone(nn.Module):
    """Gives a tensor of its own."""

    def forward(self, values: Tensor) -> Tensor:
        """Return a copy of `values`."""
        return values.clone()


def _allow_in_place(model: Classifier) -> Classifier:
    """Return a copy in which layers may be followed by operations in place (`out += identity` of a residual block).

    Those would overwrite what the hooks for gradients look at, which is an error.
    """
    copy = model.clone()
    for parent in list(copy.modules()):
        if isinstance(parent, ACTIVATIONS):
            parent.inplace = False
        if isinstance(parent, SeededDropout):
            parent.p = 0.0  # Opacus computes single gradients where nothing may be drawn
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d | nn.GroupNorm):
                setattr(parent, name, nn.Sequential(child, _Clone()))
    return copy


def _without_unused(model: Classifier) -> Classifier:
    """Freeze weights that the network does not use, in place: they get no gradient, and Opacus asks for one of each."""
    weights = [w for w in model.parameters() if w.requires_grad]
    logits = model(noise(model, 2))
    for weight, gradient in zip(weights, torch.autograd.grad(logits.sum(), weights, allow_unused=True), strict=True):
        weight.requires_grad_(gradient is not None)
    return model


def check_sampler(loader: DataLoader[tuple[Tensor, ...]]) -> None:
    """Raise `UsageError` unless the loader draws by Poisson sampling, without which epsilon is not valid."""
    if not isinstance(loader.batch_sampler, UniformWithReplacementSampler):
        found = type(loader.batch_sampler).__name__
        raise UsageError(f"dp_training: epsilon is valid under Poisson sampling only, and the loader draws by {found}")


def _check(params: DpTrainingParams, batch_size: int, count: int) -> None:
    if params.delta >= 1 / count:
        raise UsageError(
            f"dp_training.delta: {params.delta} protects nobody among {count} images; it must be below {1 / count:.2e}"
        )
    if batch_size > count:
        raise UsageError(f"dp_training.batch_size: {batch_size} is more than the {count} training images")
    if params.secure_mode and importlib.util.find_spec("torchcsprng") is None:
        raise UsageError("dp_training.secure_mode: needs the package torchcsprng, which is not installed")


def _noise_generator(scenario: Scenario, device: torch.device) -> torch.Generator:
    seed = int(torch.randint(2**62, (), generator=scenario.rng("dp noise")))
    return torch.Generator(device).manual_seed(seed)


def _descend(
    scenario: Scenario,
    params: DpTrainingParams,
    private: GradSampleModule,
    optimizer: DPOptimizer,
    loader: DataLoader[tuple[Tensor, ...]],
) -> int:
    """Run all steps and return how many batches were empty: those take a step too, of noise alone."""
    device, data = scenario.bench.device, scenario.data
    total, step, empty = params.epochs * len(loader), 0, 0
    at_once = params.physical_batch_size or (AT_ONCE_ON_CPU if device.type == "cpu" else AT_ONCE)
    for epoch in range(params.epochs):
        losses = torch.zeros((), device=device)
        for (index,) in loader:
            index = index.long()  # noqa: PLW2901 - an empty batch comes as another type
            empty += not len(index)
            parts = index.split(at_once)
            for part in parts:
                optimizer.signal_skip_step(do_skip=part is not parts[-1])
                loss = F.cross_entropy(private(_batch(data.images[part], device)), data.labels[part].to(device))
                optimizer.zero_grad()
                # Opacus takes the mean's gradient apart; an empty batch has a mean of nothing.
                (loss if len(part) else loss.nan_to_num()).backward()
                optimizer.step()
                losses += loss.detach().nan_to_num() * len(part)
                scenario.bench.progress.step("private training", step, total)
            step += 1
        scenario.bench.progress.metric("train.loss", epoch + 1, float(losses) / len(data))
    scenario.bench.progress.step("private training", total, total)
    return empty
