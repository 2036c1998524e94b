"""Prompts: styles, meta-prompts, a user's own templates, chat templates."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from flywheel.config import find, load
from flywheel.core.assets import asset
from flywheel.core.model_folders import chat_format
from flywheel.errors import ConfigError, ModelError
from flywheel.instructions.prompts import Prompts, prompts_of
from flywheel.records import Reworded, Task

OWN = asset("prompts")
DEMOS = [Task(instruction=f"Do {name}.", input=f"with {name}", constraints="None") for name in ("this", "that", "it")]
PAIRS = [Reworded(instruction="Say hello.", alternative="Greet."), Reworded(instruction="Count.", alternative="How many?")]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def as_chat(words: str) -> str:
    return f"<user>{words}<assistant>"


def test_the_enumerated_prompt_is_the_papers() -> None:
    assert Prompts(OWN).propose(DEMOS) == (
        "Example 1\nInstruction: Do this.\nInput: with this\nConstraints: None\n\n"
        "Example 2\nInstruction: Do that.\nInput: with that\nConstraints: None\n\n"
        "Example 3\nInstruction: Do it.\nInput: with it\nConstraints: None\n\n"
        "Example 4\nInstruction:"
    )


def test_the_minimal_prompt_has_nothing_but_the_fields_and_the_verbose_one_explains_them() -> None:
    minimal = Prompts(OWN, meta_prompt="minimal").propose(DEMOS)
    assert "Example" not in minimal
    assert minimal.endswith("Constraints: None\n\nInstruction:")
    verbose = Prompts(OWN, meta_prompt="verbose").propose(DEMOS)
    assert verbose.endswith(Prompts(OWN).propose(DEMOS))
    assert len(verbose) > len(Prompts(OWN).propose(DEMOS)) + 200


def test_the_paraphrase_prompt_shows_two_pairs_and_not_the_input() -> None:
    assert Prompts(OWN).paraphrase(DEMOS[0], PAIRS) == (
        "Example 1\nInstruction: Say hello.\nAlternative: Greet.\n\nExample 2\nInstruction: Count.\nAlternative: How many?\n\n"
        "Example 3\nInstruction: Do this.\nAlternative:"
    )


@pytest.mark.parametrize("meta_prompt", ["enumerated", "minimal", "verbose"])
def test_chat_prompts_are_what_a_user_says_in_the_chat_template(meta_prompt: str) -> None:
    prompts = Prompts(OWN, meta_prompt=meta_prompt, chat=as_chat)
    for prompt in (prompts.propose(DEMOS), prompts.answer(DEMOS[0]), prompts.paraphrase(DEMOS[0], PAIRS)):
        assert prompt.startswith("<user>")
        assert prompt.endswith("<assistant>")
    assert prompts.answer(DEMOS[0]) == "<user>Do this.\n\nwith this<assistant>"
    assert prompts.answer(Task(instruction="Rhyme.", input="None", constraints="Two lines.")) == (
        "<user>Rhyme.\n\nTwo lines.<assistant>"
    )
    assert prompts.output(" yes ") == "yes"
    assert Prompts(OWN).output("yes ") == " yes"


def test_a_users_folder_overrides_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "answer.jinja").write_text("Q: {{ task.instruction }}\nA:")
    prompts = Prompts(tmp_path)
    assert prompts.answer(DEMOS[0]) == "Q: Do this.\nA:"
    assert prompts.propose(DEMOS) == Prompts(OWN).propose(DEMOS)
    assert prompts.digest != Prompts(OWN).digest


def test_the_digest_is_of_the_templates_in_use() -> None:
    digests = {
        Prompts(OWN).digest, Prompts(OWN, meta_prompt="verbose").digest, Prompts(OWN, chat=as_chat).digest,
        Prompts(OWN, chat=lambda words: f"[{words}]").digest,
    }  # fmt: skip
    assert len(digests) == 4
    assert Prompts(OWN).digest == Prompts(OWN).digest


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for %}", "line 1"),
        ("{{ task.colour }}", "'task' is undefined"),
        ("{{ demos.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        (" \n", "empty"),
    ],
)
def test_a_broken_template_is_named(tmp_path: Path, template: str, reason: str) -> None:
    (tmp_path / "propose.jinja").write_text(template)
    with pytest.raises(ConfigError) as error:
        Prompts(tmp_path).propose(DEMOS)
    assert "propose.jinja" in error.value.message
    assert reason in error.value.message
    assert "template" in error.value.hint


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "answer.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as error:
        Prompts(tmp_path)
    assert "answer.jinja" in error.value.message
    assert error.value.hint


def test_a_folder_in_the_place_of_a_template_is_named(tmp_path: Path) -> None:
    (tmp_path / "propose.jinja").mkdir()
    with pytest.raises(ConfigError) as error:
        Prompts(tmp_path)
    assert f"{tmp_path / 'propose.jinja'} is a folder" in error.value.message
    assert error.value.hint


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        Prompts(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in error.value.message
    assert "`prompts`" in error.value.hint


def test_what_a_model_wrote_is_not_read_as_a_template() -> None:
    hostile = Task(instruction="{{ 7 * 7 }} {% for x in y %}", input="{# hidden #}")
    assert "{{ 7 * 7 }} {% for x in y %}\nInput: {# hidden #}" in Prompts(OWN).answer(hostile)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(asset("data/nano/generator"))
    return found


def test_the_tokenizers_own_chat_template_is_used(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    assert chat_format(tmp_path)("Do {{ this }}.") == "<|im_start|>user\nDo {{ this }}.<|im_end|>\n<|im_start|>assistant\n"


def test_a_start_token_is_not_written_twice(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    start = tokenizer.pad_token
    tokenizer.bos_token, tokenizer.chat_template = start, "{{ bos_token }}" + CHATML
    tokenizer.save_pretrained(tmp_path / "without")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.pad_token_id)]
    )
    tokenizer.save_pretrained(tmp_path / "with")
    assert chat_format(tmp_path / "without")("x").startswith(start)
    assert chat_format(tmp_path / "with")("x").startswith("<|im_start|>")


def test_a_base_model_has_no_chat_template() -> None:
    assert chat_format(asset("data/nano/generator")) is None
    chat = load(find("nano"), ["prompt_style=chat"])
    with pytest.raises(ModelError, match="data/nano/generator has no chat template"):
        prompts_of(chat, asset("data/nano/generator"))
