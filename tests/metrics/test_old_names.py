"""Scripts that import a metric by the name that it had before go on."""

import importlib

import pytest

from cxrgan_fast.metrics.metric import all_metrics

OLD = {
    "memorisation": "memorization",
    "nearest_neighbour": "nearest_neighbor",
    "neighbours": "neighbors",
}
# Of the functions of these modules, those that were written after the change of names.
SINCE = {"count_balls", "nearest_drawn"}


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_what_the_module_had_is_there_by_its_old_name(old, new):
    before = importlib.import_module(f"cxrgan_fast.metrics.{old}")
    now = importlib.import_module(f"cxrgan_fast.metrics.{new}")
    defined = {
        name: each
        for name, each in vars(now).items()
        if not name.startswith("_") and getattr(each, "__module__", "") == now.__name__
    }
    british = {
        name.replace("emoriz", "emoris").replace("eighbor", "eighbour"): each
        for name, each in defined.items()
    }
    for name in SINCE:
        british.pop(name, None)
    assert sorted(before.__all__) == sorted(british)
    for name, each in british.items():
        assert getattr(before, name) is each


def test_metrics_keep_the_names_that_files_and_commands_have():
    assert {"memorisation", "nearest_neighbour"} <= all_metrics().keys()
    assert not {"memorization", "nearest_neighbor"} & all_metrics().keys()
