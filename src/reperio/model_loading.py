"""Load a model of the sentence-transformers family: quietly, and with one error for whatever may go wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from reperio import forks
from reperio.errors import ReperioError


@contextmanager
def loading(model: str, failed: type[ReperioError], cure: str, *, reported: bool = True) -> Iterator[None]:
    """Load a model inside ``with``: without a progress bar, and with every error as *failed*.

    Args:
        model: names the model in the error, e.g. "the model 'all-MiniLM-L6-v2'".
        failed: type of the error.
        cure: how the message goes on.
        reported: False to keep what transformers says of missing weights to itself.
    """
    from transformers.utils import logging

    forks.spare_torch()
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # it would be there for a fraction of a second
    if not reported:
        logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the library are its own concern
            yield
    except Exception as error:  # the library raises whatever the hub, the file system or torch raised
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise failed(f"{model} cannot be loaded: {first}. {cure}") from error
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
