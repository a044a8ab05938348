import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_retriever.index.fusion import reciprocal_rank_fusion

rankings = st.lists(st.lists(st.sampled_from("abcdefghij"), unique=True), max_size=4)


def test_the_fusion_equals_the_papers_formula() -> None:
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"]])
    assert fused == pytest.approx({"b": 1 / 62 + 1 / 61, "a": 1 / 61, "c": 1 / 62})
    assert list(fused) == ["b", "a", "c"]


@given(rankings)
def test_the_fusion_has_all_items_best_first(given_rankings: list[list[str]]) -> None:
    fused = reciprocal_rank_fusion(given_rankings)
    assert set(fused) == {item for ranking in given_rankings for item in ranking}
    assert list(fused.values()) == sorted(fused.values(), reverse=True)
    assert all(0 < score <= len(given_rankings) / 61 for score in fused.values())


@given(rankings, st.randoms())
def test_the_order_of_the_rankings_does_not_matter(given_rankings: list[list[str]], rng: object) -> None:
    assert reciprocal_rank_fusion(given_rankings[::-1]) == pytest.approx(reciprocal_rank_fusion(given_rankings))


@given(st.lists(st.sampled_from("abcdefghij"), unique=True), st.integers(1, 4))
def test_rankings_that_agree_keep_their_order(ranking: list[str], times: int) -> None:
    assert list(reciprocal_rank_fusion([ranking] * times)) == ranking


@given(rankings, st.data())
def test_rising_in_one_ranking_never_lowers_an_item(given_rankings: list[list[str]], data: st.DataObject) -> None:
    ranking = data.draw(st.sampled_from([each for each in given_rankings if len(each) > 1] or [["a", "b"]]))
    others = [each for each in given_rankings if each is not ranking]
    place = data.draw(st.integers(1, len(ranking) - 1))
    risen = [*ranking]
    risen[place - 1], risen[place] = risen[place], risen[place - 1]
    before, after = reciprocal_rank_fusion([*others, ranking]), reciprocal_rank_fusion([*others, risen])
    item = ranking[place]
    assert after[item] > before[item]
    assert list(after).index(item) <= list(before).index(item)
