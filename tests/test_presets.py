"""Every preset loads, and means what its comments say."""

from __future__ import annotations

import pytest

from flywheel import config as configuration
from flywheel.assets import presets


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_valid(name: str) -> None:
    found = configuration.load(configuration.find(name))
    assert found.reward.members


def test_gpt2_is_the_reference_recipe() -> None:
    reward = configuration.load(configuration.find("gpt2")).reward
    assert (reward.layers, reward.epochs, reward.learning_rate, reward.batch_size, reward.max_length) == (8, 4, 1e-6, 8, 1024)
    assert (reward.merge.method, reward.merge.density, reward.merge.dtype) == ("ties", 1.0, "float16")
    assert [(one.kind, one.weight) for one in reward.members.values()] == [("thumbs", 0.5), ("pairs", 0.6), ("pairs", 0.05)]
    assert reward.members["thumbs"].threshold == 1
    assert reward.members["thumbs"].columns == {"text": "input_text", "label": "labels"}
    assert not reward.joint.epochs
    assert not reward.search.trials
