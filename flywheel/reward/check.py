"""The self-test of a reward model: what makes such models score wrongly without an error, checked before one selects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flywheel.errors import ModelError
from flywheel.reward.data import Row
from flywheel.reward.measures import area_under_curve, score_set
from flywheel.reward.model import TOLERANCE, RewardModel
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer, end_mark

ANSWERS = 32
"""Texts that are scored in several ways; more would find nothing new."""
ROWS = 1000
"""Rows that the label order is read from."""
SWAPPED = "Disliked outputs score higher; check that labels and columns are not swapped, or train for more epochs."
MEANINGS = {
    "no missing weights": "Missing weights are random at every load; build or save the model again.",
    "finite weights": "Training or merging failed; lower the learning rate or the weights.",
    "float32": "Rounding in half precision changes winners; load the model in float32.",
    "eval mode": "Scores change with every call; call .eval() after loading.",
    "padding side": "Other tools would pad on the left and return other scores; save the tokenizer with padding_side='right'.",
    "pad token": "The score is read before the padding; give model and tokenizer the same pad token, other than the end token.",
    "batch invariance": "Padding is read as text, so a score depends on the batch; fix the pad token.",
    "deterministic": "Scores change with every call; call .eval() after loading.",
    "scores differ": "All texts score the same; the training failed, or only padding is read.",
    "end token": "The end token is taken for padding, so cut-off texts look finished; give it another pad token.",
    "reload": "A weight is random at every load, or the folder has changed since; save the model again.",
    "label order of thumbs": SWAPPED,
    "label order of pairs": SWAPPED,
}
"""What a failure of each check means, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    name: str
    ok: bool
    found: str
    meaning: str
    """What a failure means, and what to do."""


def check_reward_model(load: Callable[[], RewardModel], answers: Sequence[Answer], rows: Sequence[Row]) -> list[Finding]:
    """Try a reward model; ``load`` loads it from disk each time.

    ``answers`` are outputs of any kind, of several lengths; ``rows`` held-out thumbs or pairs, without which the order
    of the labels cannot be checked.
    """
    try:
        model = load()
    except ModelError as error:
        return [Finding(name="no missing weights", ok=False, found=error.message, meaning=error.hint)]
    findings = [_finding("no missing weights", True, "no random weight"), *_check_network(model)]
    if findings[1].ok:  # otherwise it cannot score at all
        findings += [*_check_scores(model, load, answers[:ANSWERS]), *_check_label_order(model, rows[:ROWS])]
    return findings


def refuse_failures(folder: Path, findings: Sequence[Finding]) -> None:
    """Raise ModelError with every failed check and what it means."""
    if failed := [finding for finding in findings if not finding.ok]:
        reasons = "; ".join(f"{finding.name}: {finding.found}" for finding in failed)
        meanings = " ".join(dict.fromkeys(finding.meaning for finding in failed))
        raise ModelError(f"{folder.name.removesuffix('.tmp')} failed the self-test: {reasons}", meanings)


def _finding(name: str, ok: bool, found: str) -> Finding:
    return Finding(name=name, ok=ok, found=found, meaning=MEANINGS[name])


def _check_network(model: RewardModel) -> Iterator[Finding]:
    network, tokenizer, side = model.network.model, model.network.tokenizer, str(model.network.saved_padding_side)
    bad = next((name for name, values in network.named_parameters() if not bool(values.isfinite().all())), None)
    yield _finding("finite weights", bad is None, "all finite" if bad is None else f"NaN or infinity in {bad}")
    types = sorted({str(values.dtype).removeprefix("torch.") for values in network.parameters()})
    yield _finding("float32", types == ["float32"], ", ".join(types))
    training = any(module.training for module in network.modules())
    yield _finding("eval mode", not training, "dropout on" if training else "dropout off")
    yield _finding("padding side", side == "right", f"the tokenizer pads on the {side}")
    pad, end, same = tokenizer.pad_token, end_mark(tokenizer), network.config.pad_token_id == tokenizer.pad_token_id
    tokens = f"pads with {pad}, ends with {end or 'nothing'}" + ("" if same else ", and the model has another pad token")
    yield _finding("pad token", same and pad != end, tokens)


def _check_scores(model: RewardModel, load: Callable[[], RewardModel], answers: Sequence[Answer]) -> Iterator[Finding]:
    together = model.score_answers(answers)

    def same(name: str, scores: Sequence[float]) -> Finding:
        gap = max(abs(a - b) for a, b in zip(together, scores, strict=True))
        return _finding(name, gap <= TOLERANCE, f"largest difference {gap:.1g}")

    yield same("batch invariance", [model.score_answers([answer])[0] for answer in answers])
    yield same("deterministic", model.score_answers(answers))
    spread = max(together) - min(together)
    yield _finding("scores differ", spread > TOLERANCE, f"scores span {spread:.2g}")
    cut = model.score_answers([replace(answer, finished=False) for answer in answers])
    blind = sum(abs(a - b) <= 1e-7 for a, b in zip(together, cut, strict=True))
    yield _finding("end token", blind == 0, f"{blind} of {len(cut)} texts score the same when cut off")
    yield same("reload", load().score_answers(answers))


def _check_label_order(model: RewardModel, rows: Sequence[Row]) -> Iterator[Finding]:
    """The area under the curve of each kind of row there is."""
    for kind in dict.fromkeys(type(row) for row in rows):
        scored = score_set(model, {Split.TEST: [row for row in rows if type(row) is kind]})
        if scored.liked is None or len(set(scored.liked[Split.TEST])) == 2:
            area = area_under_curve(scored, Split.TEST)
            yield _finding(f"label order of {kind.__name__.lower()}s", area > 0.5, f"AUC {area:.3f}")
