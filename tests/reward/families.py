"""Tiny models with random weights of the architectures that a reward model may be built on."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from flywheel.core.assets import asset

WORDS = 640
SIZE = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
DECODER = SIZE | {"num_key_value_heads": 1, "max_position_embeddings": 256, "tie_word_embeddings": True}
ENCODER = SIZE | {"max_position_embeddings": 258}

FAMILIES: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=4, n_head=2, n_positions=256),
    "gpt-neox": GPTNeoXConfig(**SIZE, max_position_embeddings=256),
    "llama": LlamaConfig(**DECODER),
    "mistral": MistralConfig(**DECODER),
    "qwen2": Qwen2Config(**DECODER),
    "qwen3": Qwen3Config(**DECODER, head_dim=16),
    "gemma": GemmaConfig(**DECODER, head_dim=16),
    "roberta": RobertaConfig(**ENCODER, pad_token_id=0),
    "bert": BertConfig(**ENCODER),
    "deberta-v2": DebertaV2Config(
        **ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16,
        norm_rel_ebd="layer_norm", share_att_key=True,
    ),
}  # fmt: skip
ENCODERS = ("roberta", "bert", "deberta-v2")


def make_model(name: str, folder: Path) -> Path:
    """Save a language model of a family with the nano tokenizer; encoders mark both ends of a text, as theirs do."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(asset("data/nano/generator"))
    config = FAMILIES[name]
    if name in ENCODERS:
        core: Tokenizer = tokenizer.backend_tokenizer
        core.post_processor = processors.TemplateProcessing(
            single="<|end|> $A <|end|>", special_tokens=[("<|end|>", tokenizer.eos_token_id)]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, cls_token="<|end|>", sep_token="<|end|>", pad_token="<|pad|>", model_max_length=256
        )
        model = AutoModelForMaskedLM.from_config(config)
    else:
        # As most of them come: no pad token.
        tokenizer.pad_token = None
        config.eos_token_id = tokenizer.eos_token_id
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
