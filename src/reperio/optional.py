"""The one place that says how to install an optional package."""

from __future__ import annotations

from reperio.errors import MissingDependency


class OptionalImport:
    """Import optional packages inside ``with``: one that is missing becomes `MissingDependency`.

    Args:
        what: what needs the package, as the message begins, e.g. "a plot".
        package: name of the package, as people know it.
        extra: extra of Reperio that installs it.
        instead: another way out, as the message goes on after "or"; empty for none.

    Example:
        >>> with OptionalImport("a plot", "matplotlib", extra="plot"):
        ...     import matplotlib
    """

    def __init__(self, what: str, package: str, *, extra: str, instead: str = "") -> None:
        self._what, self._package, self._extra, self._instead = what, package, extra, instead

    def __enter__(self) -> None:
        """Begin to import."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ImportError):
            # A package that is there may lack a part, or a library of the system.
            state = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be imported"
            other = f", or {self._instead}" if self._instead else ""
            raise MissingDependency(
                f"{self._what} needs {self._package}, which {state}; run: pip install 'reperio[{self._extra}]'{other} "
                f"[{error}]"
            ) from error
