"""A valid profile to start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from safedl.profile.document import read

PUBLISHED = Path(__file__).parent.parent / "data_profiles"
SHIPPED = Path(__file__).parent.parent.parent / "profiles"

VALID = """\
name: small
dataset: {name: digits}
model: {name: cnn, input_shape: [1, 8, 8], num_classes: 10}
training: {epochs: 3}
attack_overrides:
  data_poisoning:
    label_flipping: {strategy: random, flip_rate: 0.3, source_class: null}
  backdoor:
    static_patch: {target_class: 1, patch_size_ratio: 0.25}
defense_config:
  data_poisoning:
    label_flipping:
      defenses: [data_cleaning, robust_loss]
      data_cleaning: {method: loss_filtering}
      robust_loss: {type: gce}
  backdoor:
    static_patch:
      activation_clustering: {num_clusters: 2}
      pruning: {pruning_ratio: 0.2}
      model_inspection: {layers: [conv.0.weight, fc1]}
"""


@pytest.fixture
def valid() -> dict[str, object]:
    return read(VALID, "valid.yaml")
