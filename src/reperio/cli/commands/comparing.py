"""``reperio duplicates``: chunks that say the same, and which of them to keep."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import KB, Origin, Scope, Where, flag, option, reading, to_filter
from reperio.errors import InvalidInput

_THRESHOLD = "Least score of a duplicate: by cosine 0.95 by default; by l2 minus the squared distance."
_KEEP = "What is kept of chunks that say the same: oldest, newest or longest."
_IDS = "Ids of what need not be kept, one a line, for reperio delete."
_SHOWN = 20  # groups for people, and members of one; --json has all
_TEXT = 100  # characters of a text


def duplicates(
    kb: KB,
    threshold: Annotated[float | None, option("SCORE", _THRESHOLD)] = None,
    by: Annotated[str, typer.Option(metavar="WHAT", help="vector, or text: the same one, apart from case.")] = "vector",
    keep: Annotated[str, typer.Option(metavar="RULE", help=_KEEP)] = "oldest",
    pairs: Annotated[bool, flag("--pairs", "All pairs by vector, as they are found, instead of groups.")] = False,
    ids: Annotated[bool, flag("--ids", _IDS)] = False,
    where: Where = None,
    scope: Scope = None,
    origin: Origin = None,
    exit_code: Annotated[bool, flag("--exit-code", "Exit with 1 where any are found.")] = False,
    json: Annotated[bool, flag("--json", "One JSON object a line, and nothing else.")] = False,
) -> None:
    """Find chunks that say the same, by vector or by text, and which of them to keep; nothing is changed."""
    if pairs and (ids or by != "vector" or keep != "oldest"):
        raise InvalidInput("--pairs compares vectors and keeps none; leave out --ids, --by and --keep")
    with reading(kb, origin, to_filter(scope, "--scope")) as collection, reperio.progress_bar(disable=json) as progress:
        chosen = to_filter(where)
        if pairs:
            any_found = _print_pairs(collection.duplicate_pairs(threshold, where=chosen, progress=progress), json=json)
        else:
            found = collection.duplicates(threshold, by=by, keep=keep, where=chosen, progress=progress)  # type: ignore[arg-type]  # checked there
            any_found = bool(found)
            if ids:
                for one in (one for group in found for one in group.duplicates):
                    output.print_json_line(one.id) if json else output.print_line(one.id)
            elif json:
                for group in found:
                    output.print_json_line(group)
            else:
                _print_groups(collection, found)
    if any_found and exit_code:
        raise typer.Exit(1)


def _print_pairs(pairs: Iterator[reperio.DuplicatePair], *, json: bool) -> bool:
    found = False
    for pair in pairs:
        found = True
        if json:
            output.print_json_line(pair)
        else:
            output.print_line(f"{_score(pair.score)}  {pair.first}  {pair.second}")
    return found


def _print_groups(collection: reperio.Collection, found: list[reperio.DuplicateGroup]) -> None:
    """Print the beginnings of texts, and how much could go."""
    for group in found[:_SHOWN]:
        some = list(islice(group.duplicates, _SHOWN))
        texts = {chunk.id: chunk.text[:_TEXT] for chunk in collection.get([group.kept, *(one.id for one in some)])}
        output.print_line(f"keep    {group.kept}  {texts.get(group.kept, '')}")
        for one in some:
            score = "same text" if one.score is None else _score(one.score)
            output.print_line(f"– {score}  {one.id}  {texts.get(one.id, '')}")
        if len(group.duplicates) > len(some):
            output.print_line(f"– {len(group.duplicates) - len(some):,} more, which --json lists")
    if len(found) > _SHOWN:
        output.print_line(f"{len(found) - _SHOWN:,} more groups, which --json lists")
    total = sum(len(group.duplicates) for group in found)
    kept = output.many(len(found), "chunk")
    output.print_line(f"{output.many(total, 'duplicate')} of {kept}" if found else "no duplicates")


def _score(score: float) -> str:
    return f"{score:.4f}" if abs(score) < 1000 else f"{score:.6g}"
