"""Configurations: checked before anything is loaded, and told in one line what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.config import check, find, load
from flywheel.errors import ConfigError
from flywheel.instructions.tasks import read_lines
from flywheel.reward.sources import read_source


def nano(*overrides: str) -> object:
    return load(find("nano"), overrides)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sampling.temprature=0.8", "unknown config key 'sampling.temprature'; did you mean 'sampling.temperature'?"),
        ("smapling.n=2", "unknown config key 'smapling'; did you mean 'sampling'?"),
        ("reward.members.pairs.wieght=1", "did you mean 'reward.members.pairs.weight'?"),
        ("sampling.n=0", "sampling.n: input should be greater than or equal to 1, got 0"),
        ("sampling.n=many", "sampling.n: input should be a whole number, got 'many'"),
        ("sampling.temperature=-1", "sampling.temperature: input should be greater than 0, got -1"),
        ("training.start=nowhere", "training.start: input should be 'previous' or 'base', got 'nowhere'"),
        ("sampling.max_tokens=512", "sampling.max_tokens (512) must be below training.max_length (256)"),
        ("training.lora.r=8", "did you mean 'training.lora.rank'?"),
        ("training.lora.zzz=8", "known keys: alpha, dropout, rank, targets"),
        ("sampling.n", "--set wants key=value"),
        ("seed.n=3", "seed is not a section"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        nano(override)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"got 0 \(to mend too: sampling\.temperature, training\.epochs\)$"):
        nano("sampling.n=0", "sampling.temperature=-1", "training.epochs=0")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="config key 'generator' is missing"):
        check({})


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nano'"):
        find("nanno")


@pytest.mark.parametrize("text", ["a: [1", "- 1", "'", ""])
def test_a_file_that_is_not_a_config_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_every_preset_is_well_formed() -> None:
    from flywheel.core.assets import presets

    for name, path in presets().items():
        assert load(path), name


def test_what_changes_speed_only_is_not_part_of_the_identity() -> None:
    plain = nano()
    for override in ("engine.workers=1", "engine.device=cpu", "reward.batch_tokens=99", "instructions.max_attempts=99"):
        assert nano(override).identity() == plain.identity(), override
    for override in ("seed=1", "sampling.n=8", "engine.chunk=7", "training.learning_rate=1", "reward.members.pairs.weight=9"):
        assert nano(override).identity() != plain.identity(), override


def test_a_path_starts_from_the_folder_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(find("nano").read_text().replace("asset:data/nano/seeds.jsonl", "my/seeds.jsonl"))
    loaded = load(path)
    assert loaded.path(loaded.instructions.seeds) == tmp_path / "my" / "seeds.jsonl"
    assert loaded.path(loaded.evaluation.tasks).is_file()


def test_a_hub_id_stays_one_where_there_is_no_such_folder(tmp_path: Path) -> None:
    loaded = nano("generator=openai-community/gpt2")
    assert loaded.model(loaded.generator) == "openai-community/gpt2"


def test_a_byte_order_mark_before_a_text_is_no_part_of_it(tmp_path: Path) -> None:
    """As editors on Windows write it."""
    text = find("nano").read_text()
    (tmp_path / "config.yaml").write_text(f"base: {find('nano').parent}\n{text}", encoding="utf-8-sig")
    assert load(tmp_path / "config.yaml") == load(find("nano"))
    (tmp_path / "seeds.jsonl").write_text('{"instruction": "Say hello."}\n', encoding="utf-8-sig")
    assert read_lines(tmp_path / "seeds.jsonl") == [{"instruction": "Say hello.", "line": 1}]
    (tmp_path / "thumbs.csv").write_text("prompt,completion,label\nSay hello.,Hello.,true\n", encoding="utf-8-sig")
    (row,) = read_source([tmp_path / "thumbs.csv"])
    assert row.values["prompt"] == "Say hello."
