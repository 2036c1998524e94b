"""Best-of-N and its control policies."""

from __future__ import annotations

from collections import Counter

from flywheel.records import Candidate, FinishReason, Policy, Scored
from flywheel.round.selection import select


def scored(reward: float, place: int, *, cut: bool = False, tokens: int = 5, logprob: float | None = -1.0) -> Scored:
    reason = FinishReason.LENGTH if cut else FinishReason.STOP
    candidate = Candidate(
        task_id="t", candidate=place, output=f"output {place}", finish_reason=reason, tokens=tokens, logprob=logprob, seed=0
    )
    return Scored(candidate=candidate, reward=reward)


def picks(*candidates: Scored, seed: int = 0) -> dict[Policy, int]:
    return {selection.policy: selection.candidate for selection in select("t", candidates, seed)}


def test_the_highest_reward_wins() -> None:
    assert picks(scored(0.1, 0), scored(0.9, 1), scored(0.5, 2))[Policy.BEST] == 1


def test_a_cut_candidate_never_wins_in_any_policy() -> None:
    found = picks(scored(9.0, 0, cut=True, tokens=99, logprob=-0.01), scored(0.1, 1), scored(0.2, 2))
    assert 0 not in found.values()
    assert found[Policy.BEST] == 2


def test_a_task_with_only_cut_candidates_has_no_winner() -> None:
    assert select("t", [scored(1.0, 0, cut=True), scored(2.0, 1, cut=True)]) == []


def test_the_margin_is_the_distance_to_the_next_finished_candidate() -> None:
    best = next(
        one for one in select("t", [scored(0.9, 0), scored(0.4, 1), scored(5.0, 2, cut=True)]) if one.policy == Policy.BEST
    )
    assert best.margin == 0.5
    assert select("t", [scored(0.9, 0)])[0].margin is None


def test_each_policy_picks_by_its_own_measure() -> None:
    found = picks(
        scored(3.0, 0, tokens=2, logprob=-3.0), scored(1.0, 1, tokens=9, logprob=-2.0), scored(2.0, 2, tokens=3, logprob=-1.0)
    )
    assert (found[Policy.BEST], found[Policy.LONGEST], found[Policy.MAX_LOGPROB], found[Policy.FIRST]) == (0, 1, 2, 0)


def test_there_is_no_likeliest_policy_without_likelihoods() -> None:
    assert Policy.MAX_LOGPROB not in picks(scored(1.0, 0, logprob=None), scored(2.0, 1))


def test_ties_are_broken_by_the_seed_and_not_by_position() -> None:
    winners = Counter(picks(*(scored(1.0, place) for place in range(4)), seed=seed)[Policy.BEST] for seed in range(400))
    assert set(winners) == {0, 1, 2, 3}
    assert min(winners.values()) > 60


def test_the_same_seed_picks_the_same() -> None:
    same = [scored(1.0, place) for place in range(4)]
    assert [picks(*same, seed=seed) for seed in range(20)] == [picks(*same, seed=seed) for seed in range(20)]
