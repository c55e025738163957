"""What is rewritten before the tests begin is what pytest would rewrite in each of its processes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests import rewritten


def test_pytest_rewrites_the_plugin_and_finds_its_modules_where_they_are_written(
    request: pytest.FixtureRequest,
) -> None:
    hook = request.config.pluginmanager.rewrite_hook
    assert isinstance(hook, rewrite.AssertionRewritingHook)
    assert rewritten.PLUGIN in hook._must_rewrite
    paths = rewritten.plugin_modules()
    for name in ("core", "stateful", "internal.conjecture.data"):
        module = importlib.import_module(f"{rewritten.PLUGIN}.{name}")
        assert isinstance(module.__loader__, rewrite.AssertionRewritingHook)
        assert Path(str(module.__file__)) in paths
