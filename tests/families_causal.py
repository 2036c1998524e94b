"""Tiny models with random weights of the presets' architectures, with tokenizers and chat templates in the form of theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from flywheel.core.assets import asset
from flywheel.instructions.prompts import format_task
from flywheel.instructions.tasks import read_seeds

END, BEGIN_TURN, END_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
)
TEMPLATES = {
    "gpt2": None,
    # SmolLM2's says first who it is.
    "llama": "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}" + TURNS + "{% endif %}",
    # Qwen3 thinks unless it is told not to: an empty thought is then put into its mouth.
    "qwen3": TURNS + "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
}  # fmt: skip
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 8192, "tie_word_embeddings": True}
CONFIGS: dict[str, type[PretrainedConfig]] = {"gpt2": GPT2Config, "llama": LlamaConfig, "qwen3": Qwen3Config}


def make_causal(family: str, folder: Path) -> Path:
    """Save a language model of a family in a folder."""
    tokenizer = _tokenizer()
    tokenizer.chat_template = TEMPLATES[family]
    tokenizer.save_pretrained(folder)
    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 1024},
        "llama": GROUPED,
        "qwen3": GROUPED | {"head_dim": 16},
    }[family]
    torch.manual_seed(0)
    config = CONFIGS[family](
        vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **sizes,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, of about 1,000 tokens, learnt from the general seeds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [format_task(seed.task) for seed in read_seeds(asset("data/seeds.jsonl"))]
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[END, BEGIN_TURN, END_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_TURN, pad_token=END, model_max_length=8192)
