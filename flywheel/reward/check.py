"""The self-test of a reward model: what has made such models score nonsense in silence, tried before one may select."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    found: str
    meaning: str
    """What a failure means, and what to do."""


def check_reward_model(load: Callable[[], RewardModel], answers: Sequence[Answer], rows: Sequence[Row]) -> list[Finding]:
    """Try a reward model; ``load`` makes a fresh one from disk.

    ``answers`` are outputs of any kind, of several lengths; ``rows`` held-out thumbs or pairs, without which the order
    of the labels cannot be checked.
    """
    try:
        scorer = load()
    except ModelError as error:
        return [Finding(name="loads whole", ok=False, found=str(error), meaning="a made-up weight scores at random")]
    answers = answers[:ANSWERS]
    whole = Finding(name="loads whole", ok=True, found="no weight made up", meaning="")
    inside = list(_inside(scorer))
    if not inside[0].ok:  # it cannot score at all
        return [whole, *inside]
    return [
        whole,
        *inside,
        *_scores(scorer, answers),
        _reload(scorer, load, answers),
        *_label_order(scorer, rows[:ROWS]),
    ]


def refuse_failures(folder: Path, findings: Sequence[Finding]) -> None:
    """Raise ModelError with every failed check and what it means."""
    if failed := [one for one in findings if not one.ok]:
        reasons = "; ".join(f"{one.name}: {one.found} ({one.meaning})" for one in failed)
        raise ModelError(f"{folder.name.removesuffix('.tmp')} may not select: {reasons}")


def _inside(scorer: RewardModel) -> Iterator[Finding]:
    bad = next((name for name, values in scorer.model.named_parameters() if not bool(values.isfinite().all())), None)
    yield Finding(
        name="finite weights", ok=bad is None, found="all finite" if bad is None else f"NaN or infinity in {bad}",
        meaning="training or merging broke; lower the learning rate or the weights",
    )  # fmt: skip
    types = sorted({str(values.dtype).removeprefix("torch.") for values in scorer.model.parameters()})
    yield Finding(
        name="float32", ok=types == ["float32"], found=", ".join(types),
        meaning="rounding in half precision changes winners; load it in float32",
    )  # fmt: skip
    training = [name for name, module in scorer.model.named_modules() if module.training]
    yield Finding(
        name="eval mode", ok=not training, found="dropout off" if not training else "dropout on",
        meaning="every call gives another score; call .eval() after loading",
    )  # fmt: skip
    saved = str(scorer.saved_padding_side)
    yield Finding(
        name="padding side", ok=saved == "right", found=f"its tokenizer pads on the {saved}",
        meaning="other tools that load it would shift its scores; save the tokenizer with padding_side='right'",
    )  # fmt: skip
    pad, end = scorer.tokenizer.pad_token, end_mark(scorer.tokenizer)
    same = scorer.model.config.pad_token_id == scorer.tokenizer.pad_token_id
    yield Finding(
        name="pad token", ok=same and pad != end,
        found=f"pads with {pad}, ends with {end or 'nothing'}" + ("" if same else ", and the model takes another pad token"),
        meaning="the score is read at the last token that is no padding; give it a pad token of its own and save both anew",
    )  # fmt: skip


def _scores(scorer: RewardModel, answers: Sequence[Answer]) -> Iterator[Finding]:
    together = scorer.score(answers)
    alone = [scorer.score([answer])[0] for answer in answers]
    gap = max(abs(a - b) for a, b in zip(together, alone, strict=True))
    yield Finding(
        name="alone as in a batch", ok=gap <= TOLERANCE, found=f"differ by {gap:.1g}",
        meaning="padding is read as text, so a score depends on its neighbours; check the pad token",
    )  # fmt: skip
    again = scorer.score(answers)
    gap = max(abs(a - b) for a, b in zip(together, again, strict=True))
    yield Finding(
        name="repeats", ok=gap <= TOLERANCE, found=f"differ by {gap:.1g}",
        meaning="something random is left in the model; call .eval() after loading",
    )  # fmt: skip
    spread = max(together) - min(together)
    yield Finding(
        name="tells texts apart", ok=spread > TOLERANCE, found=f"scores spread over {spread:.2g}",
        meaning="it gives everything the same score; its training failed, or it reads padding only",
    )  # fmt: skip
    cut = scorer.score([replace(answer, finished=False) for answer in answers])
    blind = sum(abs(a - b) <= 1e-7 for a, b in zip(together, cut, strict=True))
    yield Finding(
        name="sees the end of a text", ok=blind == 0, found=f"{blind} of {len(cut)} texts score the same when cut off",
        meaning="the end token is taken for padding, so cut-off texts look finished; give it a pad token of its own",
    )  # fmt: skip


def _reload(scorer: RewardModel, load: Callable[[], RewardModel], answers: Sequence[Answer]) -> Finding:
    gap = max(abs(a - b) for a, b in zip(scorer.score(answers), load().score(answers), strict=True))
    return Finding(
        name="same after a reload", ok=gap <= TOLERANCE, found=f"differ by {gap:.1g}",
        meaning="a weight is made up at every load, or the folder has changed meanwhile; save the model anew",
    )  # fmt: skip


def _label_order(scorer: RewardModel, rows: Sequence[Row]) -> Iterator[Finding]:
    """The area under the curve of each kind of row there is."""
    for kind in dict.fromkeys(type(row) for row in rows):
        scored = score_set(scorer, {Split.TEST: [row for row in rows if type(row) is kind]})
        if scored.liked is not None and len(set(scored.liked[Split.TEST])) < 2:
            continue
        area = area_under_curve(scored, Split.TEST)
        yield Finding(
            name=f"label order of {kind.__name__.lower()}s", ok=area > 0.5, found=f"AUC {area:.3f}",
            meaning="it prefers what people dislike; labels or columns are swapped, or it learnt nothing",
        )  # fmt: skip
