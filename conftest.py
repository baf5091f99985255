"""How the tests draw their examples and share the workers, and what `pytest --nbval` needs to run the notebooks."""

import os
import re

import hypothesis
import pytest

# the same examples in every run, and no limit on the time of one: a busy machine is no finding
hypothesis.settings.register_profile("lab", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("lab")


# their tests share no fixture: one worker may take a notebook or an exercise, the other one the next
BY_PART = {"test_notebooks.py": r"\[(.*ipynb)\]", "test_wrong_answers.py": r"\[(\d+\.\d+)"}
LONGEST = (
    "test_workers.py",
    "test_notebooks.py",
    "test_jupyterlab.py",
    "test_ddp_two_nodes.py",
    "test_wrong_answers.py",
)


def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_xdist_make_scheduler(config, log):
    """A file's tests stay on one worker, except for those of BY_PART."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            part = re.search(BY_PART.get(file.rsplit("/", 1)[-1], "$^"), nodeid)
            return f"{file} {part[1]}" if part else file

    return Scheduler(config, log)


def pytest_configure(config):
    if getattr(config.option, "nbval", False) or getattr(config.option, "nbval_lax", False):
        _run_like_the_build(config)


def _run_like_the_build(config):
    import nbval.kernel
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
    # nbval runs cells without a history, and then IPython shows what a closing semicolon should hide
    patch.setattr(nbval.kernel.RunningKernel, "execute_cell_input", _execute_like_jupyterlab)
    # a progress bar is not stored, so nbval must not ask for it
    patch.setattr(nbval.plugin, "coalesce_streams", clean_outputs)


def _execute_like_jupyterlab(kernel, source, allow_stdin=None):
    return kernel.kc.execute(source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)
