"""docs/open-facts.md and the output of ``hk-tickctl facts`` speak of the same headings and lines."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hk_tick_collector.quality.facts import DayFacts
from tests.scratch_tree import ROOT
from tests.unit.test_facts import STOCK, at, told

PAGE = ROOT / "docs/open-facts.md"


def _facts(root: Path) -> DayFacts:
    late_ms = at("10:00:00", 1).ts_ms
    pulled = at("09:59:59", 3, push_type="backfill", push_data_type=None, recv_ts_ms=late_ms)
    return told(root, [at("09:30:00", 1, STOCK), at("09:30:01", 2), pulled, at("10:00:01", 4)])


def test_each_heading_is_one_of_the_output_in_its_order(tmp_path: Path) -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == [fact.name for fact in _facts(tmp_path).facts]


def test_each_line_that_the_page_names_is_printed_under_its_heading(tmp_path: Path) -> None:
    lines = {fact.name: {line.label.strip() for line in fact.lines} for fact in _facts(tmp_path).facts}
    not_lines = {"none", "hk-tickctl gaps"}
    for part in PAGE.read_text().split("\n## ")[1:]:
        name, _, text = part.partition("\n")
        named = {re.sub(r"\s+", " ", quoted) for quoted in re.findall(r"`([^`]+)`", text)} - not_lines
        assert named <= lines[name], f"{name}: {named - lines[name]}"
        assert named or name in ("Push data types", "Types and signs"), name


def test_the_template_it_names_is_there_and_asks_for_the_output() -> None:
    (name,) = set(re.findall(r"template=(\w+\.yml)", PAGE.read_text()))
    template = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / name).read_text())
    assert any("hk-tickctl facts" in part["attributes"].get("label", "") for part in template["body"])
    assert template["name"] in PAGE.read_text()
