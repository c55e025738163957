"""The data roots behind one server: what each is called in an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.serve.api.facts import restart
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.problems import Problem


def _roots(*places: Path | str) -> Roots:
    return Roots([(Path(place), Path(place) / "_archive") for place in places])


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (("/data/HK", "/data/us"), ["HK", "us"]),
        (("/data/sqlite/HK", "/data/twin/HK", "/data/us"), ["sqlite/HK", "twin/HK", "us"]),
        (("/a/x/HK", "/b/x/HK", "/c/HK"), ["a/x/HK", "b/x/HK", "c/HK"]),
        (("/HK", "/a/HK"), ["HK", "a/HK"]),
    ],
)
def test_each_has_a_name_of_its_own_and_no_more_of_its_path(places: tuple[str, ...], names: list[str]) -> None:
    assert [root.name for root in _roots(*places).all] == names


def test_a_restart_of_one_of_two_that_end_alike_reaches_that_one(tmp_path: Path) -> None:
    for place in ("sqlite", "twin"):
        (tmp_path / place / "HK").mkdir(parents=True)
    roots = _roots(tmp_path / "sqlite/HK", tmp_path / "twin/HK")
    with pytest.raises(Problem, match="the recorder of twin/HK does not run"):
        restart(None, roots, "twin/HK", ANONYMOUS)
    with pytest.raises(Problem, match="no data root is called 'HK'; there are sqlite/HK, twin/HK"):
        restart(None, roots, "HK", ANONYMOUS)
