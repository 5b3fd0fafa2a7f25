"""Building models: seeds and threads, user modules, weights, identity."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safedl.catalog.settings import ModelSettings
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses.guard import Guard
from safedl.errors import UsageError
from safedl.models.build import build, check_independent, identity
from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from safedl.training.fit import to_float
from safedl.training.workbench import model_digest

GOOD = """
from torch import nn
def get_model(num_classes, input_shape):
    c, h, w = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, 16), nn.ReLU(inplace=True), nn.Dropout(0.5),
                         nn.Linear(16, num_classes))
"""


class _Shares(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits.softmax(1)


@pytest.fixture
def data() -> Dataset:
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = ImageSet(images, torch.arange(40) % 10)
    return Dataset("random", tuple("0123456789"), part, part, part, "")


def _custom(tmp_path: Path, source: str, **rest: Any) -> ModelSettings:
    (tmp_path / "user_model.py").write_text(source)
    return ModelSettings(name="user_model.py", type="custom", **rest)


def test_logits_that_are_shares_for_one_image_are_no_probabilities() -> None:
    """Those of grey, which normalisation makes 0, are the last layer's bias."""
    last = nn.Linear(16, 2)
    last.bias.data = torch.tensor([0.25, 0.75])
    model = Classifier(nn.Sequential(nn.Flatten(), last), [0.5], [0.25], (1, 4, 4))
    assert model.head == "1"
    with pytest.raises(UsageError, match="gives probabilities"):
        Classifier(_Shares(nn.Flatten(), last), [0.5], [0.25], (1, 4, 4))


def test_same_seed_gives_same_weights_from_threads_at_once(data: Dataset) -> None:
    before = torch.get_rng_state()

    def digest(seed: int) -> str:
        return model_digest(build(ModelSettings(name="cnn"), data, seed))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(digest, [0, 1, 2, 3] * 5))
    assert found == [digest(seed) for seed in (0, 1, 2, 3)] * 5
    assert len(set(found)) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_drawn_by_numpy_or_python_depend_on_the_seed_alone(data: Dataset, tmp_path: Path) -> None:
    source = LINEAR.replace("import torch", "import random, torch, numpy as np; torch.rand(3), np.random.rand()")
    source += "    net[1].bias.data[:] = torch.tensor(np.random.rand(10)) + random.random()\n    return net"
    settings = _custom(tmp_path, source)
    random.seed(1), np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1), np.random.seed(1)
    one = build(settings, data, 0, [tmp_path])
    assert (random.random(), np.random.rand()) == expected  # the generators were left as they were
    assert model_digest(one) == model_digest(build(settings, data, 0, [tmp_path]))
    assert model_digest(one) != model_digest(build(settings, data, 1, [tmp_path]))


def test_user_module_is_found_in_the_first_folder_and_given_shape_and_classes(data: Dataset, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir(), second.mkdir()
    settings = _custom(first, GOOD)
    _custom(second, GOOD.replace("16", "24"))
    assert build(settings, data, 0, [first, second]).layer("1").out_features == 16
    assert build(settings, data, 0, [tmp_path, second]).layer("1").out_features == 24
    one, two = build(settings, data, 0, [first]), build(settings, data, 0, [first])
    assert model_digest(one) == model_digest(two) != model_digest(build(settings, data, 1, [first]))
    assert one.penultimate == "3" and one.layer("2").inplace is False


def test_user_module_may_import_its_neighbours_and_take_params(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "blocks_of_test.py").write_text("WIDTH = 5\n")
    source = """
from blocks_of_test import WIDTH
from torch import nn
def get_model(extra):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH + extra), nn.Linear(WIDTH + extra, 10))
"""
    model = build(_custom(tmp_path, source, params={"extra": 2}), data, 0, [tmp_path])
    assert model.layer("1").out_features == 7


def test_params_of_the_profile_come_before_what_is_announced(data: Dataset, tmp_path: Path) -> None:
    params = {"num_classes": 10, "input_shape": [1, 4, 16]}
    assert build(_custom(tmp_path, GOOD, params=params), data, 0, [tmp_path]).layer("1").in_features == 64
    with pytest.raises(UsageError, match=r"gives \[2, 3\] for two images, not logits \[2, 10\]"):
        build(_custom(tmp_path, GOOD, params={"num_classes": 3}), data, 0, [tmp_path])


LINEAR = """
import torch
from torch import nn
def get_model():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "defines no function get_model"),
        ("def get_model():\n    return 1 / 0", r"user_model.py, line 2, failed: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "line 2, failed: SystemExit: 3"),
        ("def get_model(:", "SyntaxError"),
        ("def get_model():\n    return 3", "returned int, not a torch.nn.Module"),
        ("from torch import nn\ndef get_model():\n    return nn.Linear(3, 10)", "fails on images \\[2, 1, 8, 8\\]"),
        (GOOD.replace("16, num_classes", "16, 4"), r"gives \[2, 4\] for two images, not logits \[2, 10\]"),
        (GOOD.replace("nn.Linear(16, num_classes)", "nn.Linear(16, num_classes), nn.Tanh()"), "no penultimate layer"),
        (GOOD.replace("nn.Dropout(0.5)", "nn.AlphaDropout(0.5)"), "draws random numbers of its own"),
        (LINEAR + "    return net.to('meta')", "cannot be used: NotImplementedError"),
        (LINEAR + "    net.modules = lambda: 5\n    return net", "cannot be used: TypeError"),
        (LINEAR + "    net.forward = lambda x: exec('raise BaseException(3)')\n    return net", "BaseException: 3"),
        (LINEAR + "    net[1].bias.data[0] = float('nan')\n    return net", "logits that are not finite"),
        (LINEAR + "    net.forward = lambda x: net[1](net[0](x)).detach()\n    return net", "cuts the gradient"),
        (LINEAR + "    return net.requires_grad_(False)", "has nothing to train: all its parameters are frozen"),
        (LINEAR + "    net.forward = lambda x: net[1](net[0](x)).softmax(1)\n    return net", "gives probabilities"),
        (LINEAR + "    net.forward = lambda x: net[1](net[0](x)).long()\n    return net", r"of type torch\.int64"),
    ],
)
def test_unusable_user_modules_are_refused_in_one_line(
    data: Dataset, tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build(_custom(tmp_path, source), data, 0, [tmp_path])
    assert "\n" not in str(caught.value)


VIEWING = """
from torch import nn
class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.BODY
        self.head = nn.LazyLinear(10)
    def forward(self, images):
        return self.head(self.body(images).view(images.size(0), -1))
def get_model(input_shape):
    return Net(input_shape[0])
"""


@pytest.mark.parametrize("body", ["Conv2d(channels, 4, 3)", "Identity()"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("merged", ["images.size(0)", "images.size(0) * COUNT, -1).reshape(images.size(0)"])
def test_a_network_may_call_view_on_its_values(tmp_path: Path, channels: int, body: str, merged: str) -> None:
    images = torch.randint(0, 256, (40, channels, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    part = ImageSet(images, torch.arange(40) % 10)
    merged = merged.replace("COUNT", "4" if "Conv" in body else "images.size(1)")
    settings = _custom(tmp_path, VIEWING.replace("BODY", body).replace("images.size(0)", merged))
    model = build(settings, Dataset("random", tuple("0123456789"), part, part, part, ""), 0, [tmp_path])
    expected = model.net((images.float() / 255 - model.mean) / model.std)
    batch = to_float(images, torch.device("cpu"))
    for answer in (model, model.clone(), frozen(model), Guard(model).classify):
        assert torch.allclose(answer(batch), expected, atol=1e-5)


def test_a_network_may_convolve_in_three_dimensions(data: Dataset, tmp_path: Path) -> None:
    source = LINEAR.replace("64, 10", "256, 10") + "    net.insert(0, nn.Unflatten(1, (1, 1)))\n"
    settings = _custom(tmp_path, source + "    net.insert(1, nn.Conv3d(1, 4, 1))\n    return net")
    model = build(settings, data, 0, [tmp_path])
    batch = to_float(data.train.images, torch.device("cpu"))
    assert torch.allclose(frozen(model)(batch), model.net((batch - model.mean) / model.std), atol=1e-5)


def test_a_compiled_network_is_taken_as_it_was_before(data: Dataset, tmp_path: Path) -> None:
    settings = _custom(tmp_path, LINEAR + "    return torch.compile(net)")
    model = build(settings, data, 0, [tmp_path])
    assert isinstance(model.net, torch.nn.Sequential) and model.head == "1"


def test_missing_module_tells_where_it_was_looked_for(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"model.path: no such file: gone.py .*{tmp_path}"):
        build(ModelSettings(path="gone.py"), data, 0, [tmp_path])


@pytest.mark.parametrize("whole", [True, False])
def test_weights_come_from_a_network_or_from_a_saved_classifier(data: Dataset, tmp_path: Path, whole: bool) -> None:
    source = build(ModelSettings(name="mlp"), data, 5)
    source.mean.fill_(0.25)
    torch.save((source if whole else source.net).state_dict(), tmp_path / "start.pt")
    model = build(ModelSettings(name="mlp", weights="start.pt"), data, 0, [tmp_path])
    assert model_digest(model) != model_digest(build(ModelSettings(name="mlp"), data, 0))
    assert torch.equal(model.layer("hidden").weight, source.layer("hidden").weight)
    assert (float(model.mean) == 0.25) is whole


def test_a_module_with_an_attribute_net_is_no_classifier(data: Dataset, tmp_path: Path) -> None:
    source = GOOD.replace("return nn.Sequential(", "model = nn.Module()\n    model.net = nn.Sequential(")
    settings = _custom(tmp_path, source + "    model.forward = model.net.forward\n    return model\n")
    started = build(settings, data, 5, [tmp_path])
    for name, state in {"own.pt": started.net.state_dict(), "whole.pt": started.state_dict()}.items():
        assert ("net.net.1.weight" in state) is (name == "whole.pt")
        torch.save(state, tmp_path / name)
        model = build(settings.model_copy(update={"weights": name}), data, 0, [tmp_path])
        assert torch.equal(model.layer("net.1").weight, started.layer("net.1").weight)


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemError('code from the file ran')",)


def _bad_weights(kind: str, path: Path, data: Dataset) -> None:
    net = build(ModelSettings(name="mlp"), data, 0).net
    state = dict(net.state_dict())
    if kind == "code":
        torch.save({"hidden.weight": _Evil()}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(_Evil()))
    elif kind == "whole model":
        torch.save(net, path)
    elif kind == "garbage":
        path.write_bytes(b"not a file of weights")
    elif kind == "truncated":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "other values":
        torch.save({"epoch": 3}, path)
    elif kind == "numbered":
        torch.save({0: torch.zeros(1)}, path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "missing":
        torch.save({k: v for k, v in state.items() if k != "output.bias"}, path)
    elif kind == "unknown":
        torch.save(state | {"third.bias": torch.zeros(1)}, path)
    elif kind == "shape":
        torch.save(state | {"output.bias": torch.zeros(11)}, path)
    elif kind == "whole numbers":
        torch.save(state | {"output.bias": torch.ones(10, dtype=torch.int8)}, path)
    elif kind == "sparse":
        torch.save(state | {"output.bias": torch.ones(10).to_sparse()}, path)
    elif kind == "too large":
        torch.save(state | {"output.bias": torch.full((10,), 1e300, dtype=torch.float64)}, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("code", "pickled code, which is not run"),
        ("plain pickle", "pickled code, which is not run"),
        ("whole model", "pickled code, which is not run"),
        ("garbage", "start.pt"),
        ("truncated", "start.pt"),
        ("other values", "no state dict"),
        ("numbered", "no state dict"),
        ("empty", "cannot read .*start.pt"),
        ("missing", "lacks output.bias|does not fit.*lacks output.bias"),
        ("unknown", "does not know third.bias"),
        ("shape", r"has \[10\] for output.bias where the file has \[11\]"),
        ("whole numbers", "has floats for output.bias where the file has whole numbers"),
        ("sparse", "has floats for output.bias where the file has sparse"),
        ("too large", "values that are no numbers, in output.bias"),
        ("absent", "model.weights: no such file: start.pt"),
    ],
)
def test_bad_weights_are_refused_in_one_line(data: Dataset, tmp_path: Path, kind: str, message: str) -> None:
    _bad_weights(kind, tmp_path / "start.pt", data)
    with pytest.raises(UsageError, match=message) as caught:
        build(ModelSettings(name="mlp", weights="start.pt"), data, 0, [tmp_path])
    assert "\n" not in str(caught.value)


def test_weights_of_which_all_were_cast_to_half_precision_are_taken(data: Dataset, tmp_path: Path) -> None:
    state = build(ModelSettings(name="cnn"), data, 5).net.state_dict()
    counter = "conv.1.num_batches_tracked"
    state[counter] += 7
    torch.save({name: values.half() for name, values in state.items()}, tmp_path / "half.pt")
    model = build(ModelSettings(name="cnn", weights="half.pt"), data, 0, [tmp_path])
    assert model.net.state_dict()[counter] == 7 and model.net.state_dict()[counter].dtype == torch.int64
    torch.save({**state, counter: torch.tensor(float("inf"))}, tmp_path / "half.pt")
    with pytest.raises(UsageError, match=f"whole numbers for {counter} where the file has floats"):
        build(ModelSettings(name="cnn", weights="half.pt"), data, 0, [tmp_path])


def test_identity_depends_on_contents_not_on_paths(data: Dataset, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    settings = _custom(one, GOOD)
    _custom(two, GOOD)
    torch.save({"a": torch.zeros(1)}, one / "w.pt")
    assert identity(settings, data, [one]) == identity(settings, data, [two])
    found = {
        identity(settings, data, [one]),
        identity(_custom(two, GOOD + "# changed"), data, [two]),
        identity(ModelSettings(name="cnn"), data),
        identity(ModelSettings(name="mlp"), data),
        identity(ModelSettings(name="mlp", params={"hidden_size": 64}), data),
        identity(ModelSettings(name="mlp", weights="w.pt"), data, [one]),
    }
    assert len(found) == 6
    assert identity(ModelSettings(name="mlp", params={"hidden_size": 128}), data) == identity(
        ModelSettings(name="mlp"), data
    )


def test_identity_depends_on_what_the_module_imports_from_below_its_folder(data: Dataset, tmp_path: Path) -> None:
    for folder in ("parts_of_test", "later_of_test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "blocks.py").write_text("WIDTH = 5\n")
    source = GOOD.replace("from torch import nn", "from torch import nn\nfrom parts_of_test.blocks import WIDTH")
    source = source.replace("input_shape):", "input_shape):\n    import later_of_test.blocks")
    settings = _custom(tmp_path, source)

    def found() -> str:
        build(settings, data, 0, [tmp_path])
        return identity(settings, data, [tmp_path])

    before = found()
    (tmp_path / "stray.py").write_text("WIDTH = 5\n")
    (tmp_path / ".#user_model.py").symlink_to("me@host.123")  # as Emacs locks what it edits
    (tmp_path / "folder.py").mkdir()
    assert found() == before
    seen = {before}
    for folder in ("parts_of_test", "later_of_test"):
        (tmp_path / folder / "blocks.py").write_text("WIDTH = 77\n")
        seen.add(found())
    assert len(seen) == 3


def test_identity_depends_on_settings_that_the_module_reads_itself(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "rate.txt").write_text("0.5")
    read = f"float(open({str(tmp_path / 'rate.txt')!r}).read())"
    settings = _custom(tmp_path, GOOD.replace("Dropout(0.5)", f"Dropout({read})"))
    before = identity(settings, data, [tmp_path])
    assert identity(settings, data, [tmp_path]) == before
    (tmp_path / "rate.txt").write_text("0.1")
    assert identity(settings, data, [tmp_path]) != before


def test_identity_depends_on_weights_that_the_module_reads_itself(data: Dataset, tmp_path: Path) -> None:
    source = LINEAR + f"    net.load_state_dict(torch.load({str(tmp_path / 'own.pt')!r}))\n    return net"
    settings, net = _custom(tmp_path, source), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.save(net.state_dict(), tmp_path / "own.pt")
    before = identity(settings, data, [tmp_path])
    assert identity(settings, data, [tmp_path]) == before
    net[1].bias.data += 1
    torch.save(net.state_dict(), tmp_path / "own.pt")
    assert identity(settings, data, [tmp_path]) != before


@pytest.mark.parametrize(
    "added", ["net.extra_repr = lambda: net.gone", "net.register_buffer('links', torch.eye(3).to_sparse())"]
)
def test_networks_that_cannot_be_shown_or_hold_sparse_values_are_told_apart(
    data: Dataset, tmp_path: Path, added: str
) -> None:
    (tmp_path / "value.txt").write_text("1")
    read = f"float(open({str(tmp_path / 'value.txt')!r}).read())"
    settings = _custom(tmp_path, LINEAR + f"    {added}\n    net[1].bias.data[:] = {read}\n    return net")
    check_independent(build(settings, data, 0, [tmp_path]), build(settings, data, 0, [tmp_path]), settings)
    before = identity(settings, data, [tmp_path])
    assert identity(settings, data, [tmp_path]) == before
    (tmp_path / "value.txt").write_text("2")
    assert identity(settings, data, [tmp_path]) != before


@pytest.mark.parametrize("draws", ["np.random.default_rng().random(10)", "np.random.RandomState().rand(10)"])
def test_weights_that_no_seed_fixes_are_refused(data: Dataset, tmp_path: Path, draws: str) -> None:
    source = LINEAR.replace("import torch", "import torch, numpy as np")
    settings = _custom(tmp_path, source + f"    net[1].bias.data[:] = torch.tensor({draws})\n    return net")
    with pytest.raises(UsageError, match="gives other weights at each call, though the seed is the same"):
        check_independent(build(settings, data, 0, [tmp_path]), build(settings, data, 0, [tmp_path]), settings)
    settings = _custom(tmp_path, source + "    return net")
    check_independent(build(settings, data, 0, [tmp_path]), build(settings, data, 0, [tmp_path]), settings)
