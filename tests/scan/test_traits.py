"""What images have in common, and who carries it."""

from __future__ import annotations

import pytest
import torch

from safedl.data.imageset import ImageSet
from safedl.scan import traits
from safedl.scan.traits import amounts, carriers, class_means, common_trait, share_called, stamped
from tests.defenses.conftest import Backdoored

NONE = torch.zeros(0, 1, 1, 1, dtype=torch.uint8)
"""No trusted images."""


def marked() -> tuple[ImageSet, torch.Tensor, torch.Tensor]:
    """Return three classes of noisy squares; thirty of class 1 and 2 carry a faint wave and the label 0."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(3).repeat_interleave(100)
    images = 100 + 20 * torch.randn(300, 1, 8, 8, generator=rng)
    images[truth == 1, :, :4] += 60
    images[truth == 2, :, :, :4] += 60
    wave = 25 * torch.sin(torch.arange(8.0) * 2.5).expand(1, 8, 8)
    carrying = torch.zeros(300, dtype=torch.bool)
    carrying[100:115] = carrying[200:215] = True
    images[carrying] += wave
    labels = truth.masked_fill(carrying, 0)
    return ImageSet(images.clamp(0, 255).to(torch.uint8), labels), truth, carrying


def test_suspects_do_not_count_for_the_mean_of_their_class() -> None:
    images = torch.tensor([0, 100, 255, 50], dtype=torch.uint8).view(4, 1, 1, 1)
    clean = torch.tensor([True, True, False, True])
    means = class_means(ImageSet(images, torch.tensor([0, 0, 0, 1])), clean, 3)
    assert means.flatten().tolist() == pytest.approx([50 / 255, 50 / 255, 0.0])


def test_the_trait_is_what_was_put_on_all_of_them() -> None:
    data, truth, carrying = marked()
    means = class_means(data, ~carrying, 3)
    trait = common_trait(data.images[carrying], truth[carrying], means)
    wave = 25 / 255 * torch.sin(torch.arange(8.0) * 2.5).expand(1, 8, 8)
    assert torch.corrcoef(torch.stack([trait.flatten(), wave.flatten()]))[0, 1] >= 0.9
    carried = amounts(data.images, means, trait)
    assert abs(float(carried[carrying].mean()) - 1) <= 0.1
    assert abs(float(carried[~carrying].mean())) <= 0.1


def test_what_a_detector_left_outside_joins() -> None:
    data, truth, carrying = marked()
    positions = (data.labels == 0).nonzero().flatten()
    seen = carrying.clone()
    seen[110:115] = False
    means = class_means(data, ~seen, 3)
    trait = common_trait(data.images[seen], truth[seen], means)
    found = carriers(data, positions, seen[positions], means, trait, 0.01)
    assert found[carrying[positions]].float().mean() >= 0.9
    assert found[~carrying[positions]].float().mean() <= 0.02


def test_a_patch_tells_who_carries_it_from_a_group_that_is_half_right() -> None:
    data, _, carrying = marked()
    data.images[carrying, :, -2:, -2:] = 255
    positions = (data.labels == 0).nonzero().flatten()
    inside = carrying[positions].clone()
    inside[-10:] = False  # a third of the poison was left out
    inside[:12] = True  # and as many others were taken along
    found = stamped(data, positions, inside, NONE, 0.01)
    assert found is not None and torch.equal(found, carrying[positions])


@pytest.mark.parametrize(("side", "found"), [(1, False), (2, True)])
def test_a_single_pixel_is_no_stamp(side: int, found: bool) -> None:
    data, _, carrying = marked()
    data.images[carrying, :, -side:, -side:] = 255
    positions = (data.labels == 0).nonzero().flatten()
    assert (stamped(data, positions, carrying[positions], NONE, 0.01) is not None) == found


def test_what_trusted_images_of_the_class_have_as_well_is_no_stamp() -> None:
    """As where a class has white corners: 132 of its 150 clean images were listed for the patch on 80 others."""
    data, _, carrying = marked()
    positions = (data.labels == 0).nonzero().flatten()
    own = (data.labels == 0) & ~carrying
    data.images[carrying | own, :, -2:, -2:] = 255
    known, others = data.images[own][:20], data.images[data.labels == 1][:20]
    assert stamped(data, positions, carrying[positions], known, 0.01) is None
    assert stamped(data, positions, carrying[positions], others, 0.01) is not None


def test_images_that_share_no_pixels_carry_no_patch() -> None:
    data, _, carrying = marked()
    positions = (data.labels == 0).nonzero().flatten()
    assert stamped(data, positions, carrying[positions], NONE, 0.01) is None
    data.images[:, :, -2:, -2:] = 255  # what all images of a set share is nothing peculiar
    assert stamped(data, positions, carrying[positions], NONE, 0.01) is None


def test_a_trigger_calls_its_class_and_what_is_natural_does_not(backdoored: Backdoored) -> None:
    suspects, mask, truth = backdoored.scenario, backdoored.mask, backdoored.dataset.train.labels
    means = class_means(suspects.data, ~mask, 10)
    trigger = common_trait(suspects.data.images[mask], truth[mask], means)
    assert share_called(suspects, trigger, backdoored.target, ~mask) >= 0.9
    natural = ((suspects.data.labels == 1) & ~mask).nonzero().flatten()
    bright = natural[suspects.data.images[natural].float().mean((1, 2, 3)).argsort()[-20:]]
    style = common_trait(suspects.data.images[bright], truth[bright], means)
    assert share_called(suspects, style, 1, ~mask) <= 0.3


def test_amounts_do_not_depend_on_how_many_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data, truth, carrying = marked()
    means = class_means(data, ~carrying, 3)
    trait = common_trait(data.images[carrying], truth[carrying], means)
    whole = amounts(data.images, means, trait)
    monkeypatch.setattr(traits, "SAMPLE", 7)
    assert torch.allclose(amounts(data.images, means, trait), whole, atol=1e-5)


def test_amounts_against_trying_every_class() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 5, 4), generator=rng, dtype=torch.uint8)
    means, trait = torch.rand(3, 3, 5, 4, generator=rng), 0.3 * torch.randn(3, 5, 4, generator=rng)
    expected = []
    for image in images.double() / 255:
        fits = [((image - mean) * trait).sum() / trait.square().sum() for mean in means.double()]
        left = [(image - mean - fit * trait).square().sum() for fit, mean in zip(fits, means, strict=True)]
        expected.append(float(fits[int(torch.stack(left).argmin())]))
    assert amounts(images, means, trait).tolist() == pytest.approx(expected, abs=1e-5)


def test_who_carries_no_more_than_images_of_other_classes_do_is_no_carrier() -> None:
    carried = torch.tensor([1.0] * 10 + [0.6] * 10 + [0.0] * 10 + [0.0] * 90 + [0.7] * 10)
    images = (carried * 200).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8)
    data = ImageSet(images, (torch.arange(130) >= 30).long())
    trait, means = torch.full((1, 2, 2), 200 / 255), torch.zeros(2, 1, 2, 2)
    inside = torch.arange(30) < 10
    found = [carriers(data, torch.arange(30), inside, means, trait, rate) for rate in (0.01, 0.5)]
    assert [int(f.sum()) for f in found] == [10, 20]


def test_a_stamp_is_more_than_what_images_of_other_classes_have_of_it() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (240, 1, 4, 4), generator=rng, dtype=torch.uint8).flatten(1)
    images[:10, :8] = 255  # the group carries all of the stamp,
    images[10:20, :5] = 255  # others of its class five of eight pixels,
    images[40:54, :6] = 255  # and a few images of other classes six
    data = ImageSet(images.view(240, 1, 4, 4), (torch.arange(240) >= 40).long())
    inside = torch.arange(40) < 10
    found = [stamped(data, torch.arange(40), inside, NONE, rate) for rate in (0.01, 0.5)]
    assert [int(f.sum()) for f in found if f is not None] == [10, 20]


def test_equal_values_differ_by_two_levels_at_most() -> None:
    images = torch.tensor([[0, 98, 97], [4, 102, 103]], dtype=torch.uint8)
    values = torch.tensor([2, 100, 100], dtype=torch.uint8)
    assert traits._equal(images, values).tolist() == [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
