"""Attacks at test time beside independent implementations: same model, same images, one thread, one run.

    taskset -c 0 python -m benchmarks.evasion_peers --data PATH [--images 1000] [--slow-images 200] [--write]

Needs Foolbox and torchattacks (`pip install 'safedl[bench]'`). `--write` puts the table into
`docs/benchmarks/evasion_peers.md`; it is written anew after each row.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import foolbox
import torch
import torchattacks
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturb
from safedl.attacks.evasion import cw, deepfool, fgsm, pgd
from safedl.catalog.attacks.evasion import CwParams, DeepfoolParams, FgsmParams, PgdParams
from safedl.catalog.settings import DatasetSettings, ModelSettings, TrainingSettings
from safedl.catalog.spec import Params
from safedl.data.load import load
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from safedl.training.fit import to_float
from safedl.training.workbench import Workbench

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "evasion_peers.md"
CPU = torch.device("cpu")
BATCH = 50
RECIPE = TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-3)

Run = Callable[[Tensor, Tensor], Tensor]
"""Takes images [N, C, H, W] in [0, 1] and labels [N]; returns adversarial images."""


@dataclass(frozen=True)
class Row:
    """One attack with one setting, by several implementations; `safedl` comes first."""

    title: str
    norm: str
    runs: Mapping[str, Run]
    slow: bool = False


def rows(model: Classifier) -> list[Row]:
    """Return what is compared; ours attack a copy of the model that is quicker to ask, as they do in the product."""
    quick = frozen(model)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1))
    attacks = foolbox.attacks

    def ours(attack: Perturb, params: Params) -> Run:
        context = EvasionContext(torch.Generator().manual_seed(0), 10)
        return lambda images, labels: attack(quick, images, labels, params, context).images

    def theirs(attack: foolbox.attacks.base.Attack, **budget: float) -> Run:
        def run(images: Tensor, labels: Tensor) -> Tensor:
            made: Tensor = attack.run(peer, images, foolbox.Misclassification(labels), **budget)
            nothing = (made == 0).flatten(1).all(1)  # Foolbox's C&W returns a black image where it found none
            return images.where(nothing.view(-1, 1, 1, 1), made)

        return run

    found = []
    for epsilon in (0.03, 0.1):
        runs = {
            "safedl": ours(fgsm.perturb, FgsmParams(epsilon=epsilon)),
            "foolbox": theirs(attacks.LinfFastGradientAttack(), epsilon=epsilon),
            "torchattacks": torchattacks.FGSM(model, eps=epsilon),
        }
        found.append(Row(f"FGSM, ε = {epsilon}", "linf", runs))
    for epsilon, alpha, steps in ((0.03, 0.01, 40), (0.1, 0.02, 20)):
        runs = {
            "safedl": ours(pgd.perturb, PgdParams(epsilon=epsilon, alpha=alpha, num_iter=steps)),
            "foolbox": theirs(attacks.LinfPGD(abs_stepsize=alpha, steps=steps), epsilon=epsilon),
            "torchattacks": torchattacks.PGD(model, eps=epsilon, alpha=alpha, steps=steps),
        }
        found.append(Row(f"PGD, ε = {epsilon}, {steps} steps of {alpha}", "linf", runs))
    runs = {
        "safedl": ours(deepfool.perturb, DeepfoolParams()),
        "foolbox": theirs(attacks.L2DeepFoolAttack(steps=50, overshoot=0.02, candidates=None)),
        "torchattacks": torchattacks.DeepFool(model, steps=50, overshoot=0.02),
    }
    found.append(Row("DeepFool, 50 steps, overshoot 0.02", "l2", runs))
    for searches in (3, 5):
        runs = {
            "safedl": ours(cw.perturb, CwParams(binary_search_steps=searches)),
            "foolbox": theirs(
                attacks.L2CarliniWagnerAttack(binary_search_steps=searches, steps=300, initial_const=1e-3)
            ),
        }
        found.append(Row(f"C&W, {searches} weights from 0.001, 300 steps", "l2", runs, slow=True))
    runs = {
        "safedl": ours(cw.perturb, CwParams(binary_search_steps=1, initial_const=1.0)),
        "torchattacks": torchattacks.CW(model, c=1, steps=300, lr=0.01),
    }
    found.append(Row("C&W, weight 1, 300 steps", "l2", runs, slow=True))
    return found


def compare(row: Row, model: Classifier, images: Tensor, labels: Tensor, count: int) -> list[str]:
    """Return the lines of a table for one row. `images` [N] are those that the model gets right, of `count` tried."""
    made: dict[str, list[Tensor]] = {name: [] for name in row.runs}
    seconds: dict[str, list[float]] = {name: [] for name in row.runs}
    names = list(row.runs)
    for number, (part, target) in enumerate(zip(images.split(BATCH), labels.split(BATCH), strict=True)):
        for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
            start = time.process_time()
            made[name].append(row.runs[name](part, target).detach())
            seconds[name].append((time.process_time() - start) / len(part) * 100)
    joined = {name: torch.cat(parts) for name, parts in made.items()}
    with torch.no_grad():
        wrong = {name: model(found).argmax(1) != labels for name, found in joined.items()}
    common = torch.stack(list(wrong.values())).all(0)
    lines = []
    for name, found in joined.items():
        change = (found - images).flatten(1)[common]
        norm = change.norm(dim=1) if row.norm == "l2" else change.abs().amax(1)
        robust = int((~wrong[name]).sum()) / count
        median = statistics.median(seconds[name])
        share = median / statistics.median(seconds["safedl"])
        lines.append(
            f"| {row.title} | {name} | {count} | {robust:.3f} | {norm.mean():.4f} | {median:.2f} | {share:.2f} |"
        )
    return lines


def trained(data: Path, kept: Path | None) -> tuple[Classifier, Tensor, Tensor]:
    """Return the model, and test images uint8 [N, 1, 28, 28] with their labels; `kept` holds the model's weights."""
    os.environ["SAFEDL_DATA"] = str(data.absolute())
    dataset = load(DatasetSettings(name="fashionmnist", subset=20_000, download=False), seed=0)
    bench = Workbench(lambda seed: build(ModelSettings(name="cnn"), dataset, seed), "cnn", RECIPE, CPU, seed=0)
    if kept and kept.exists():
        model = bench.build(0)
        model.load_state_dict(torch.load(kept, weights_only=True))
    else:
        model = bench.fit(dataset.train)
        if kept:
            torch.save(model.state_dict(), kept)
    return model.eval().requires_grad_(False), dataset.test.images, dataset.test.labels


def write(lines: list[str], accuracy: float) -> None:
    """Write the document."""
    head = (
        "# Evasion attacks beside other implementations\n\n"
        f"Fashion-MNIST, `cnn` trained {RECIPE.epochs} epochs on 20,000 images, accuracy {accuracy:.3f} on the first "
        "test images, which are attacked. All implementations get the same ones, those that the model gets right, in "
        f"batches of {BATCH}, with the weights frozen. Robust accuracy is the share of all images that are still "
        "right. Norms are means over the images that every implementation of the row made the model misclassify: L∞ "
        "for FGSM and PGD, else L2. Seconds are CPU seconds for 100 images on one thread, medians over the batches, "
        "which the implementations took in turns; beside them the multiple of Safe-DL's.\n\n"
        "torchattacks' C&W cannot move black pixels: their tanh variable is infinite. Foolbox's returns a black image "
        "where it found nothing, which is counted as the original here.\n\n"
        f"Made by `python -m benchmarks.evasion_peers` with Foolbox {version('foolbox')}, torchattacks "
        f"{version('torchattacks')} and torch {torch.__version__} on {platform.machine()}, {platform.system()}.\n\n"
        "| attack | implementation | images | robust accuracy | mean norm | seconds | multiple |\n"
        "|---|---|---:|---:|---:|---:|---:|\n"
    )
    DOCUMENT.write_text(head + "\n".join(lines) + "\n")


def main() -> None:
    """Train, attack, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--slow-images", type=int, default=200, help="test images for C&W")
    parser.add_argument("--model", type=Path, help="file that keeps the trained weights between runs")
    parser.add_argument("--only", default="", help="only rows whose title contains this")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the others draw from the global generator
    model, images, labels = trained(options.data, options.model)
    images, labels = to_float(images[: options.images], CPU), labels[: options.images]
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    lines: list[str] = []
    for row in rows(model):
        if options.only not in row.title:
            continue
        count = min(options.slow_images, options.images) if row.slow else options.images
        chosen = right[:count]
        lines += compare(row, model, images[:count][chosen], labels[:count][chosen], count)
        print("\n".join(lines[-len(row.runs) :]), flush=True)
        if options.write:
            write(lines, float(right.float().mean()))


if __name__ == "__main__":
    main()
