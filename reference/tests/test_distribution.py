"""What was installed is what is tested, and nobody else's package hides behind our names."""

import importlib.metadata
import os
import pathlib

import pytest

import e2e
import reference
import sim

OUR_PACKAGES = {"reference": reference, "sim": sim, "e2e": e2e}


@pytest.mark.parametrize("name", OUR_PACKAGES)
def test_no_other_installed_distribution_owns_our_top_level_names(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, ()))

    assert owners <= {"windtunnel"}, f"{name} also comes from {sorted(owners - {'windtunnel'})}"


def test_the_distribution_refuses_to_be_uploaded() -> None:
    assert "Private :: Do Not Upload" in importlib.metadata.metadata("windtunnel").get_all("Classifier")


@pytest.mark.skipif("WINDTUNNEL_TESTS_THE_WHEEL" not in os.environ, reason="only tox installs the wheel")
@pytest.mark.parametrize("name", OUR_PACKAGES)
def test_the_installed_wheel_is_tested_and_not_the_checkout(name: str) -> None:
    assert "site-packages" in pathlib.Path(OUR_PACKAGES[name].__file__).parts


@pytest.mark.skipif("WINDTUNNEL_TESTS_THE_WHEEL" not in os.environ, reason="only tox installs the wheel")
def test_the_wheel_carries_no_tests() -> None:
    files = importlib.metadata.files("windtunnel")

    assert files
    assert not [f for f in files if "tests" in f.parts]
