"""What `pytest --nbval` needs to run the notebooks as they were built, whoever calls it."""

import os

import pytest


def pytest_configure(config):
    if getattr(config.option, "nbval", False) or getattr(config.option, "nbval_lax", False):
        _run_like_the_build(config)


def _run_like_the_build(config):
    import nbval.plugin

    from tools.build_notebooks import clean_outputs, kernel_environment

    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    environment = kernel_environment()
    wanted = environment.__enter__()
    config.add_cleanup(lambda: environment.__exit__(None, None, None))
    for name in {*os.environ} - {*wanted}:
        patch.delenv(name)
    for name, value in wanted.items():
        patch.setenv(name, value)
    # a progress bar is not stored, so nbval must not ask for it
    patch.setattr(nbval.plugin, "coalesce_streams", clean_outputs)
