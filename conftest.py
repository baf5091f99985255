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
    for name, value in environment.__enter__().items():
        patch.setitem(os.environ, name, value)
    config.add_cleanup(lambda: environment.__exit__(None, None, None))
    # a progress bar is not stored, so nbval must not ask for it
    patch.setattr(nbval.plugin, "coalesce_streams", clean_outputs)
