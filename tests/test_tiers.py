"""What runs in which tier: pairs of parameter values, targets that are here, the header."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from unittest.mock import create_autospec

import pytest
import torch
from hypothesis import settings

import tiers
from op_cases import NATIVE_CPU, TARGETS, Target

pytest_plugins = ["pytester"]

EXTENTS = (5, 3, 2, 6, 4)
WHOLE = list(product(*map(range, EXTENTS)))

MISSING = Target("native", "a device that nobody has")

Collected = Callable[[str], list[pytest.Item]]


def pairs(rows: Sequence[tuple[object, ...]]) -> set[object]:
    """Every pair of values that some row has, with where they stand."""
    return {
        (first, second, row[first], row[second])
        for row in rows
        for first, second in combinations(range(len(row)), 2)
    }


@pytest.fixture
def collected(pytester: pytest.Pytester) -> Collected:
    """Collect the tests of a source in this process, without running them."""

    def collect(source: str) -> list[pytest.Item]:
        preamble = "import pytest\nfrom op_cases import NATIVE_CPU, Target\n"
        return pytester.getitems(preamble + textwrap.dedent(source))

    return collect


def names(items: Sequence[pytest.Item]) -> list[str]:
    return [item.name for item in items]


def first_tier(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    return [item for item in items if not item.get_closest_marker("long")]


def test_all_pairs_of_a_product_are_in_few_of_its_rows() -> None:
    chosen = [WHOLE[row] for row in tiers.cover(WHOLE, 2)]
    assert pairs(chosen) == pairs(WHOLE)
    assert len(chosen) <= 36 < len(WHOLE) == 720  # no fewer than 6 * 5 can have them all
    assert chosen == [WHOLE[row] for row in tiers.cover(WHOLE, 2)]


def test_every_value_is_in_as_many_rows_as_the_longest_list_has() -> None:
    chosen = [WHOLE[row] for row in tiers.cover(WHOLE, 1)]
    assert [len({row[column] for row in chosen}) for column in range(5)] == list(EXTENTS)
    assert len(chosen) == max(EXTENTS)


def test_a_choice_is_gone_on_with() -> None:
    begun = tiers.cover(WHOLE, 1)
    chosen = tiers.cover(WHOLE, 2, begun)
    assert chosen[: len(begun)] == begun
    assert pairs([WHOLE[row] for row in chosen]) == pairs(WHOLE)
    assert len(set(chosen)) == len(chosen) <= 38


@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_rows_that_are_no_product(seed: int) -> None:
    some = random.Random(seed).sample(WHOLE, 150)
    chosen = tiers.cover(some, 2)
    assert pairs([some[row] for row in chosen]) == pairs(some)
    assert len(chosen) == len(set(chosen)) < 150


def test_more_than_there_are_parameters_is_all_of_them() -> None:
    assert sorted(tiers.cover([("a",), ("b",), ("c",)], 2)) == [0, 1, 2]
    assert tiers.cover([("a", 1), ("a", 1)], 3) == [0]


def test_a_product_becomes_its_pairs_and_each_value_is_in_the_first_tier(
    collected: Collected,
) -> None:
    items = collected(
        """
        @pytest.mark.parametrize("first", "abcd")
        @pytest.mark.parametrize("second", "efg")
        @pytest.mark.parametrize("third", "hi")
        def test_product(first, second, third): ...

        def test_without_parameters(): ...
        """
    )
    kept, left_out = tiers.sort_into_tiers(items, products=False)
    assert names(kept) == [name for name in names(items) if name not in names(left_out)]
    assert len(kept) + len(left_out) == 25
    assert len(kept) <= 14  # of which 12 are the least that have all pairs
    rows = [tuple(name[-6:-1].split("-")) for name in names(kept[:-1])]
    assert pairs(rows) == pairs([*product("hi", "efg", "abcd")])
    first = names(first_tier(kept))
    assert len(first) == 5
    assert first[-1] == "test_without_parameters"
    assert {letter for name in first[:-1] for letter in name[-6:-1:2]} == set("abcdefghi")


def test_the_whole_product_is_there_when_asked_for(collected: Collected) -> None:
    items = collected(
        """
        @pytest.mark.parametrize("first", range(3))
        @pytest.mark.parametrize("second", range(3))
        @pytest.mark.parametrize("third", range(3))
        def test_product(first, second, third): ...
        """
    )
    kept, left_out = tiers.sort_into_tiers(items, products=True)
    assert kept == items
    assert not left_out
    assert len(first_tier(kept)) == 3


def test_values_that_are_given_together_are_one(collected: Collected) -> None:
    items = collected(
        """
        @pytest.mark.parametrize(("number", "name"), [(1, "a"), (True, "a"), (1, "b"), (1.0, "b")])
        def test_cases(number, name): ...

        @pytest.mark.parametrize("unhashable", [[1], [2]])
        @pytest.mark.parametrize(argnames="other, last", argvalues=[(1, [3]), (1, [4])])
        def test_lists(unhashable, other, last): ...
        """
    )
    kept, _ = tiers.sort_into_tiers(items, products=False)
    assert kept == items
    assert len(first_tier(kept)) == 4 + 2


def test_the_first_tier_may_have_fewer(collected: Collected) -> None:
    items = collected(
        """
        @pytest.mark.first_tier(3)
        @pytest.mark.parametrize("value", range(10))
        def test_of_few(value): ...

        @pytest.mark.first_tier(1)
        @pytest.mark.parametrize("value", range(10))
        def test_of_one(value): ...

        @pytest.mark.first_tier(3)
        @pytest.mark.parametrize("value", range(2))
        def test_with_less_than_that(value): ...
        """
    )
    kept, _ = tiers.sort_into_tiers(items, products=False)
    assert kept == items
    assert [name.removeprefix("test_") for name in names(first_tier(kept))] == [
        *("of_few[0]", "of_few[4]", "of_few[9]", "of_one[0]"),
        *("with_less_than_that[0]", "with_less_than_that[1]"),
    ]


def test_a_value_that_is_long_is_in_the_second_tier_and_stands_for_none_of_the_first(
    collected: Collected,
) -> None:
    items = collected(
        """
        @pytest.mark.parametrize("first", [pytest.param(1, marks=pytest.mark.long), 2])
        @pytest.mark.parametrize("second", "ab")
        def test_long_in_part(first, second): ...

        @pytest.mark.long
        @pytest.mark.parametrize("first", [1, 2])
        @pytest.mark.parametrize("second", "ab")
        def test_long_in_whole(first, second): ...
        """
    )
    kept, left_out = tiers.sort_into_tiers(items, products=False)
    assert (kept, left_out) == (items, [])
    assert names(first_tier(kept)) == ["test_long_in_part[a-2]", "test_long_in_part[b-2]"]


def test_what_is_slow_stands_for_nothing_else(collected: Collected) -> None:
    items = collected(
        """
        @pytest.mark.parametrize("first", [pytest.param(1, marks=pytest.mark.slow), 2])
        @pytest.mark.parametrize("second", [1, 2])
        def test_slow_in_part(first, second): ...
        """
    )
    kept, _ = tiers.sort_into_tiers(items, products=False)
    assert kept == items
    quick = [item for item in kept if not item.get_closest_marker("slow")]
    assert first_tier(quick) == quick
    assert len(quick) == 2


def test_targets_that_are_not_here_are_left_out(collected: Collected) -> None:
    items = collected(
        f"""
        HERE, MISSING = NATIVE_CPU, Target({MISSING.backend!r}, {MISSING.device!r})

        @pytest.mark.parametrize("target", [HERE, MISSING], ids=str)
        @pytest.mark.parametrize("other", [1, 2])
        def test_with_a_target(target, other): ...

        @pytest.mark.parametrize("target", [MISSING], ids=str)
        def test_with_none_that_is_here(target): ...
        """
    )
    kept, left_out = tiers.sort_into_tiers(items, products=True)
    assert [name for name in names(kept) if MISSING.device in name] == []
    assert len(left_out) == (3 if not NATIVE_CPU.why_not else 5)
    assert [name for name in names(left_out) if MISSING.device not in name] == [
        item.name for item in items if NATIVE_CPU.why_not and "nobody" not in item.name
    ]


class Thinning:
    """A plugin that does to combinations of parameters what tests/conftest.py does to ours."""

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Iterator[None]:
        yield
        tiers.thin_out(metafunc, products=False)


def test_what_no_tier_runs_is_not_even_made_an_item(
    collected: Collected, pytester: pytest.Pytester
) -> None:
    source = f"""
        MISSING = Target({MISSING.backend!r}, {MISSING.device!r})
        slow = pytest.param(3, marks=pytest.mark.slow)

        @pytest.mark.first_tier(2)
        @pytest.mark.parametrize("first", [1, 2, slow])
        @pytest.mark.parametrize("second", "abcd")
        @pytest.mark.parametrize(("third", "fourth"), [(1, 2), (True, 2), (1, 3)])
        def test_product(first, second, third, fourth): ...

        @pytest.mark.parametrize("first", [1, 2, pytest.param(3, marks=pytest.mark.long)])
        @pytest.mark.parametrize("second", "abc")
        @pytest.mark.parametrize("third", range(3))
        def test_long_in_part(first, second, third): ...

        @pytest.mark.slow
        @pytest.mark.parametrize("first", range(3))
        @pytest.mark.parametrize("second", range(3))
        @pytest.mark.parametrize("third", range(3))
        def test_all_of_it_slow(first, second, third): ...

        @pytest.mark.parametrize("other", [1, 2])
        @pytest.mark.parametrize("target", ["no target", MISSING], ids=str)
        def test_here_in_part(target, other): ...

        @pytest.mark.parametrize("target", [MISSING], ids=str)
        @pytest.mark.parametrize("other", [1, 2])
        def test_nowhere_here(target, other): ...

        def test_without_parameters(): ...
        """
    whole, left_out = tiers.sort_into_tiers(collected(source), products=False)
    pytester.plugins.append(Thinning())
    thinned, still_left_out = tiers.sort_into_tiers(collected(source), products=False)
    assert names(thinned) == names(whole)
    assert names(first_tier(thinned)) == names(first_tier(whole))
    assert len(left_out) > 10
    assert len(still_left_out) == 1  # pytest would make an item without parameters of none


@pytest.mark.parametrize("here", [True, False])
def test_what_needs_a_gpu_is_left_out_without_one(
    here: bool, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = create_autospec(torch.cuda.is_available, return_value=here)
    monkeypatch.setattr(torch.cuda, "is_available", seen)
    items = collected(
        """
        @pytest.fixture
        def gpu(): ...

        def test_on_a_gpu(gpu): ...

        @pytest.mark.usefixtures("gpu")
        def test_likewise(): ...

        @pytest.mark.parametrize("gpu", ["as described"])
        def test_anywhere(gpu): ...
        """
    )
    kept, left_out = tiers.sort_into_tiers(items, products=False)
    assert names(kept) == (names(items) if here else ["test_anywhere[as described]"])
    assert len(left_out) == (0 if here else 2)


def test_the_header_names_what_is_not_tested_and_why(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("PATH", "")
    line = tiers.header([MISSING])
    assert line.startswith("targets: none; NOT TESTED: ")
    assert f"{MISSING} ({MISSING.why_not})" in line
    assert line.endswith("compilation of the CUDA sources (no nvcc here)")
    monkeypatch.undo()
    line = next(each for each in _lines(request) if each.startswith("targets: "))
    here, missing = line.split("; NOT TESTED: ")
    for target in TARGETS:
        assert (str(target) in here.split(": ")[1].split(", ")) == (not target.why_not)
        assert (str(target) in missing) == bool(target.why_not)
        assert target.why_not in missing


def _lines(request: pytest.FixtureRequest) -> list[str]:
    """What this run's own header says."""
    config = request.config
    said = config.hook.pytest_report_header(config=config, start_path=config.rootpath)
    return [line for each in said for line in ([each] if isinstance(each, str) else each)]


def test_the_second_tier_tries_properties_on_ten_times_the_examples(
    request: pytest.FixtureRequest,
) -> None:
    named = request.config.getoption("--hypothesis-profile", None)
    if named:
        pytest.skip(f"the profile of this run is {named!r}, given by --hypothesis-profile")
    tried = settings().max_examples
    assert tried == (50 if "not long" in request.config.getoption("-m") else 500)
