"""Configurations: checked before anything is loaded, with every invalid value named at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flywheel.config import Config, as_text, find, load, parse
from flywheel.config.section import Section
from flywheel.core.assets import presets
from flywheel.errors import ConfigError
from flywheel.instructions.tasks import read_lines
from flywheel.reward.sources import read_source


def nano(*overrides: str) -> Config:
    return load(find("nano"), overrides)


@pytest.mark.parametrize(
    ("override", "quoted", "hint"),
    [
        ("sampling.temprature=0.8", "'sampling.temprature'", "'sampling.temperature'"),
        ("smapling.n=2", "'smapling'", "'sampling'"),
        ("reward.members.pairs.wieght=1", "'reward.members.pairs.wieght'", "'reward.members.pairs.weight'"),
        ("training.lora.r=8", "'training.lora.r'", "'training.lora.rank'"),
        ("training.lora.zzz=8", "'training.lora.zzz'", "alpha, dropout, rank, targets"),
        ("sampling.n=0", "sampling.n = 0 must be greater than or equal to 1", ""),
        ("sampling.n=many", "sampling.n = 'many' must be a valid integer", ""),
        ("sampling.n=true", "sampling.n = True must be a valid integer", ""),
        ("sampling.n=4.0", "sampling.n = 4.0", ""),
        ("sampling.temperature=-1", "sampling.temperature = -1 must be greater than 0", ""),
        ("sampling.temperature=.nan", "sampling.temperature = nan", ""),
        ("training.start=nowhere", "training.start = 'nowhere' must be 'previous' or 'base'", ""),
        ("training.lora=3", "training.lora = 3", ""),
        ("training.lora.targets=3", "training.lora.targets = 3 must be a valid string", ""),
        ("sampling.max_tokens=512", "sampling.max_tokens = 512", "training.max_length"),
        ("training.processes=3", "training.batch_size = 32", "33"),
        ("training.paraphrases=true", "training.paraphrases", "instructions.paraphrases.per_winner"),
        ("engine.name=openai", "engine.name = 'openai'", "training.student"),
        ("budget.cost=3", "budget.cost", "prices.hour"),
        ("evaluation.judge=nobody", "evaluation.judge = 'nobody'", "module:function"),
        ("reward.members={'..': {kind: pairs, data: x, weight: 1}}", "'..' in reward.members", "64"),
        ("sampling.n", "'sampling.n'", "--set sampling.temperature=0.8"),
        ("seed.n=3", "'seed.n'", "`seed`"),
    ],
)
def test_an_invalid_value_is_quoted_with_what_is_allowed(override: str, quoted: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        nano(override)
    assert quoted in error.value.message
    assert hint in error.value.hint
    assert "\n" not in str(error.value)


def test_all_invalid_values_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        nano("sampling.n=0", "sampling.temperature=-1", "training.epochs=x", "trianing=1", "reward.members.pairs.weight=0")
    for quoted in ("sampling.n = 0", "sampling.temperature = -1", "training.epochs = 'x'", "'trianing'", "pairs.weight = 0"):
        assert error.value.message.count(quoted) == 1
    assert "'training'" in error.value.hint


def test_all_contradictions_between_sections_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        nano("sampling.max_tokens=512", "budget.cost=3")
    assert "sampling.max_tokens = 512" in error.value.message
    assert "budget.cost" in error.value.message
    assert "prices.hour" in error.value.hint


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        parse(Config, {})
    assert all(f"'{key}'" in error.value.message for key in ("generator", "reward", "evaluation"))
    assert error.value.hint


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        find("nanno")
    assert "'nanno'" in error.value.message
    assert "'nano'" in error.value.hint


@pytest.mark.parametrize("text", ["a: [1", "- 1", "'", ""])
def test_a_file_that_is_not_a_config_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(path) in error.value.message
    assert "\n" not in str(error.value)


def test_a_key_given_twice_is_reported_with_its_line_and_without_its_values(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sampling:\n  n: 1\n  top_p: 1\n  n: secret\n")
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "config.yaml")
    assert "'n'" in error.value.message
    assert "line 4" in error.value.message
    assert "secret" not in str(error.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x0: 1, x1: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, MERGES, "a: &a [*a]", "[" * 50_000, "[" * 900_000, "\n".join(f"{' ' * depth}a:" for depth in range(60))],
    ids=["bomb", "merges", "circle", "deep", "very deep", "indented"],
)
def test_yaml_that_grows_or_nests_without_end_is_refused_quickly(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(ConfigError):
        load(tmp_path / "config.yaml")
    assert time.monotonic() - started < 5


def test_aliases_within_reason_are_expanded(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(find("nano").read_text() + f"\nbase: {find('nano').parent}\nchat_arguments: {{a: &a [1], b: *a}}\n")
    assert load(path).chat_arguments == {"a": [1], "b": [1]}


def test_every_key_has_a_docstring_of_its_own_or_of_its_section() -> None:
    sections, missing = [Section], []
    while sections:
        section: Any = sections.pop()
        sections += section.__subclasses__()
        missing += [] if section.__doc__ else [section.__name__]
        missing += [
            f"{section.__name__}.{name}"
            for name, field in section.model_fields.items()
            if not field.description and not (isinstance(field.annotation, type) and issubclass(field.annotation, Section))
        ]
    assert missing == []


def test_comments_and_layout_survive_overrides() -> None:
    for name, path in presets().items():
        text = path.read_text()
        assert as_text(path).startswith(text), name
        assert load_text(as_text(path))["base"] == str(path.parent)
    text = find("nano").read_text()
    edited = as_text(find("nano"), ["seed=7", "reward.members.pairs.weight=2", "training.lora.rank=8"])
    changed = [line for line in edited.splitlines() if line not in text.splitlines()]
    assert [line.partition("#")[0].strip() for line in changed] == [
        "seed: 7", "pairs: {kind: pairs, data: asset:data/nano/pairs.jsonl, weight: 2}", "lora:", "rank: 8",
        f"base: {find('nano').parent}",
    ]  # fmt: skip
    assert edited.count("#") == text.count("#") + 1


def load_text(text: str) -> Any:
    return YAML(typ="safe").load(text)


def test_the_text_with_overrides_means_what_was_loaded(tmp_path: Path) -> None:
    overrides = ["seed=7", "reward.members.pairs.weight=2", "training.lora={rank: 8}", "engine.args.x=[1, 'yes', null]"]
    (tmp_path / "config.yaml").write_text(as_text(find("nano"), overrides))
    assert load(tmp_path / "config.yaml") == nano(*overrides)


def test_every_preset_is_well_formed() -> None:
    for name, path in presets().items():
        assert load(path), name


def test_what_changes_speed_only_is_not_part_of_the_fingerprint() -> None:
    plain = nano()
    for override in ("engine.workers=1", "engine.device=cpu", "reward.batch_tokens=99", "instructions.max_attempts=99"):
        assert nano(override).identity() == plain.identity(), override
    for override in ("seed=1", "sampling.n=8", "engine.chunk=7", "training.learning_rate=1", "reward.members.pairs.weight=9"):
        assert nano(override).identity() != plain.identity(), override


def test_a_path_starts_in_the_folder_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(find("nano").read_text().replace("asset:data/nano/seeds.jsonl", "my/seeds.jsonl"))
    loaded = load(path)
    assert loaded.path(loaded.instructions.seeds) == tmp_path / "my" / "seeds.jsonl"
    assert loaded.path(loaded.evaluation.tasks).is_file()


def test_a_hub_id_stays_one_if_there_is_no_such_folder() -> None:
    loaded = nano("generator=openai-community/gpt2")
    assert loaded.model(loaded.generator) == "openai-community/gpt2"


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    text = find("nano").read_text()
    (tmp_path / "config.yaml").write_text(f"base: {find('nano').parent}\n{text}", encoding="utf-8-sig")
    assert load(tmp_path / "config.yaml") == load(find("nano"))
    (tmp_path / "seeds.jsonl").write_text('{"instruction": "Say hello."}\n', encoding="utf-8-sig")
    assert read_lines(tmp_path / "seeds.jsonl") == [{"instruction": "Say hello.", "line": 1}]
    (tmp_path / "thumbs.csv").write_text("prompt,completion,label\nSay hello.,Hello.,true\n", encoding="utf-8-sig")
    (row,) = read_source([tmp_path / "thumbs.csv"])
    assert row.values["prompt"] == "Say hello."
