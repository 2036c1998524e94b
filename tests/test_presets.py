"""Every preset loads, means what its comments say, and can be planned against a tiny model of its architecture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flywheel import config as configuration
from flywheel.config import Config
from flywheel.core.assets import presets
from flywheel.instructions.prompts import load_prompts
from flywheel.records import Model, ModelKind, Task
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import Split
from flywheel.workspace import Workspace
from tests.conftest import Cli
from tests.families_causal import make_causal

FAMILY = {
    "gpt2": "gpt2",
    "smollm2-135m": "llama",
    "qwen3-0.6b": "qwen3",
    "qwen3-8b-vllm": "qwen3",
    "endpoint": "llama",
}
"""The architecture of what a preset trains; nano brings its model along."""
TOO_LARGE_FOR_A_TEST = "reward.layers=2"


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_valid(name: str) -> None:
    assert configuration.load(configuration.find(name)).reward.members


def test_there_is_a_preset_for_each_size_of_machine() -> None:
    assert set(presets()) == {"nano", "nano-hacked", *FAMILY}


def test_gpt2_is_the_reference_recipe() -> None:
    reward = configuration.load(configuration.find("gpt2")).reward
    assert (reward.layers, reward.epochs, reward.learning_rate, reward.batch_size, reward.max_length) == (8, 4, 1e-6, 8, 1024)
    assert (reward.merge.method, reward.merge.density, reward.merge.dtype) == ("ties", 1.0, "float16")
    assert [(member.kind, member.weight) for member in reward.members.values()] == [
        ("thumbs", 0.5),
        ("pairs", 0.6),
        ("pairs", 0.05),
    ]
    assert reward.members["thumbs"].threshold == 1
    assert reward.members["thumbs"].columns == {"text": "input_text", "label": "labels"}
    assert not reward.joint.epochs
    assert not reward.search.trials


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each architecture."""
    return {name: make_causal(name, tmp_path_factory.mktemp(name)) for name in sorted(set(FAMILY.values()))}


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small files with the columns of the public sets that the presets name, by those names."""
    folder = tmp_path_factory.mktemp("preferences")
    rows: dict[str, list[dict[str, object]]] = {
        "ChaiML/20240222_chai_prize_reward_model_data": [
            {
                "input_text": f"Anna: hello {number}\nBot: {'hi' if number % 2 else 'no'} {number}",
                "labels": number % 3,
                "season": "I",
            }
            for number in range(120)
        ],
        "feedback.jsonl": [
            {"chosen": f"Me: tell me of {number}\nBot: gladly", "rejected": f"Me: tell me of {number}\nBot: never"}
            for number in range(120)
        ],
        "Anthropic/hh-rlhf/helpful-base": [
            {
                name: f"\n\nHuman: What is {number}?\n\nAssistant: {words}"
                for name, words in (("chosen", "It is so."), ("rejected", "Go."))
            }
            for number in range(120)
        ],
        "trl-lib/kto-mix-14k": [
            {
                "prompt": [_said("user", f"Name fruit {number}.")],
                "completion": [_said("assistant", "fig")],
                "label": number % 2 == 0,
            }
            for number in range(120)
        ],
        "trl-lib/ultrafeedback_binarized": [
            {
                name: [_said("user", f"Add 1 to {number}."), _said("assistant", str(number + more))]
                for name, more in (("chosen", 1), ("rejected", 2))
            }
            | {"score_chosen": 8.0, "score_rejected": 3.0}
            for number in range(120)
        ],
        "nvidia/HelpSteer": [
            {
                "prompt": f"Say {number // 3}.",
                "response": f"{number // 3} {'!' * (number % 3)}",
                "helpfulness": number % 3,
                "verbosity": 1,
            }
            for number in range(360)
        ],
    }
    files = {}
    for name, records in rows.items():
        files[name] = folder / f"{name.replace('/', '-')}.jsonl".replace(".jsonl.jsonl", ".jsonl")
        files[name].write_text("".join(json.dumps(row) + "\n" for row in records))
    return files


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def small(name: str, families: dict[str, Path], preferences: dict[str, Path]) -> list[str]:
    """What puts tiny models and files in the place of a preset's."""
    raw, model = YAML(typ="safe").load(presets()[name]), families[FAMILY[name]]
    sets = [f"reward.base={model}", TOO_LARGE_FOR_A_TEST]
    sets.append(f"training.student={model}" if "student" in raw["training"] else f"generator={model}")
    return sets + [
        f"reward.members.{name}.data={preferences[member['data']]}" for name, member in raw["reward"]["members"].items()
    ]


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_every_preset_is_planned_with_what_it_asks_for(
    cli: Cli, name: str, families: dict[str, Path], preferences: dict[str, Path], tmp_path: Path
) -> None:
    sets = small(name, families, preferences)
    config = configuration.load(configuration.find(name), sets)
    options = [f"--set={setting}" for setting in sets]
    outcome = cli("-w", tmp_path / "w", "round", "--dry-run", "--json", "--config", name, *options)
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    assert plan["engine"]["name"] == {"qwen3-8b-vllm": "vllm", "endpoint": "openai"}.get(name, "ctranslate2")
    assert plan["models"]["student" if name == "endpoint" else "generator"]["kind"] == FAMILY[name]
    assert plan["models"]["reward"]["layers"] == 2
    works = {work["name"]: work for work in plan["work"]}
    members = [f"member {member}" for member in config.reward.members]
    joint = ["joint"] if config.reward.joint.epochs else []
    assert [name for name in works if not name.startswith("r")] == [*joint, *members, "merge"]
    assert works["merge"]["count"] == (config.reward.search.trials or 1)
    judge = ["r1 judge"] if name != "endpoint" else []
    paraphrases = ["r1 paraphrase"] if config.instructions.paraphrases.per_winner else []
    assert [name for name in works if name.startswith(("r0", "r1"))] == [
        "r0 evaluate", "r1 propose", "r1 answer", "r1 score", "r1 select", *judge, *paraphrases, "r1 train", "r1 evaluate",
    ]  # fmt: skip
    tasks, n = config.instructions.tasks, config.sampling.n
    assert works["r1 answer"]["count"] == works["r1 answer"]["rows"] == works["r1 score"]["rows"] == tasks * n
    assert works["r1 answer"]["most_tokens"] == tasks * n * config.sampling.max_tokens
    assert works["r1 propose"]["rows"] == tasks * config.instructions.max_attempts
    assert works["r1 train"]["count"] == steps(config)
    trained = {member: len(rows.of(Split.TRAIN)) for member, rows in read_sets(config).items()}
    for member, settings in config.reward.members.items():
        per_epoch = math.ceil(trained[member] / config.reward.batch_size)
        assert works[f"member {member}"]["count"] == per_epoch * (settings.epochs or config.reward.epochs)
    assert works["r1 train"]["memory"] > 0
    assert all(work["seconds"] is None for work in plan["work"])
    assert (plan["total"]["cost"] > 0) == (name == "endpoint")
    assert list(tmp_path.iterdir()) == []


def steps(config: Config) -> int:
    """Optimizer steps of a round whose every task has a winner."""
    training = config.training
    winners = config.instructions.tasks * (1 + config.instructions.paraphrases.per_winner * training.paraphrases)
    texts = winners + round(winners * training.proposal_share / (1 - training.proposal_share))
    assert training.epochs == int(training.epochs)
    return math.ceil(texts / training.batch_size) * int(training.epochs)


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen3-0.6b", "qwen3-8b-vllm"])
def test_chat_presets_ask_in_their_models_template_and_none_thinks(
    name: str, families: dict[str, Path], preferences: dict[str, Path], tmp_path: Path
) -> None:
    config = configuration.load(configuration.find(name), small(name, families, preferences))
    model = Model(kind=ModelKind.GENERATOR, name="r0", path=config.generator, digest="")
    prompt = load_prompts(config, Workspace(tmp_path / "w"), model).answer(Task(instruction="Sort.", input="b, a"))
    thought = "<think>\n\n</think>\n\n" if FAMILY[name] == "qwen3" else ""
    assert prompt.endswith(f"<|im_end|>\n<|im_start|>assistant\n{thought}")
    assert "Sort." in prompt


def test_a_model_that_thinks_is_reported(
    cli: Cli, families: dict[str, Path], preferences: dict[str, Path], tmp_path: Path
) -> None:
    sets = [*small("qwen3-0.6b", families, preferences), "instructions.tasks=10"]

    def warnings(*more: str) -> list[str]:
        options = [f"--set={setting}" for setting in (*sets, *more)]
        texts: list[str] = json.loads(
            cli("-w", tmp_path / "w", "round", "--dry-run", "--json", "--config", "qwen3-0.6b", *options).out
        )["warnings"]
        return texts

    assert not any("enable_thinking" in warning for warning in warnings())
    assert any("chat_arguments.enable_thinking=false" in warning for warning in warnings("chat_arguments={}"))
