"""What `detection.py` found, as a page for people."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

DROP = 0.02
"""Drop of nDCG@10 from which on a fault must be red."""

_HEAD = """\
# Does the gate notice?

`make bench-gate` (eval/gate/detection.py) puts one fault at a time into a healthy collection of SciFact's
{chunks:,} abstracts, embedded with MiniLM, at several strengths, and runs every check of the gate at its default limits
against the baseline that was accepted before, with a golden set of 20 questions and with one of 200. *Drop* is how much
nDCG@10 over all {questions} questions ({ndcg:.4f} when healthy) truly falls with the fault in place; "refused" where no
question is answered any more because an error says what is wrong. Questions are dense (3 of 5), hybrid and lexical;
every seventh has a filter. Red is *demanded* where the drop is {drop} or more, and of every integrity fault.
"""

_TABLE = """
## Faults

{summary}

| fault | strength | drop | demanded | with 20 questions | with 200 questions |
|---|---:|---:|---|---|---|
"""

_BENIGN = """
## False alarms

{count} benign variations, each gated with both golden sets: {alarms}.

| variation | gated | red |
|---|---:|---:|
"""

_LARGE = """
## How long it takes

`reperio gate` on {rows:,} chunks with {questions} questions, every check, against a baseline: **{seconds} s** from
start to end, the loading of the model included ({cpu}, {cores} cores).

| check | verdict | seconds |
|---|---|---:|
"""


def page(content: dict[str, Any]) -> str:
    """Return Markdown of what is there so far."""
    facts = {key: content.get(key, 0) for key in ("chunks", "questions", "ndcg")}
    parts = [_HEAD.format(**facts, drop=DROP)]
    if content["faults"]:
        parts.append(_faults(list(content["faults"].values())))
    if content["benign"]:
        parts.append(_benign(list(content["benign"].values())))
    if "large" in content:
        parts.append(_large(content["large"]))
    return "".join(parts)


def _faults(found: list[dict[str, Any]]) -> str:
    demanded = [each for each in found if each["demanded"]]
    sizes = list(found[0]["red"])
    seen = ", ".join(f"{sum(bool(each['red'][size]) for each in demanded)} with {size} questions" for size in sizes)
    lines = "".join(_line(each) for each in found)
    return _TABLE.format(summary=f"Red was demanded {len(demanded)} times, and found {seen}.") + lines


def _line(found: dict[str, Any]) -> str:
    drop = "refused" if found["refused"] else f"{found['drop'] + 0:.4f}"
    wanted = "integrity" if found["integrity"] else "yes" if found["demanded"] else "no"
    cells = [_cell(found["red"].get(size), found["demanded"]) for size in ("20", "200")]
    return f"| {found['fault']} | {found['strength']:g} | {drop} | {wanted} | {cells[0]} | {cells[1]} |\n"


def _cell(checks: list[str] | None, demanded: bool) -> str:
    if checks is None:
        return "–"
    return ", ".join(checks) if checks else "**missed**" if demanded else "green"


def _benign(found: list[dict[str, Any]]) -> str:
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in found:
        kinds[each["variation"]].append(each)
    red = [each for each in found if any(each["red"].values())]
    alarms = "; ".join(
        f"{each['variation']}: {', '.join(names)} with {size} questions"
        for each in red
        for size, names in each["red"].items()
        if names
    )
    head = _BENIGN.format(count=len(found), alarms=f"{len(red)} red ({alarms})" if red else "none is red")
    rows = [
        f"| {kind} | {len(own)} | {sum(any(each['red'].values()) for each in own)} |\n" for kind, own in kinds.items()
    ]
    return head + "".join(rows)


def _large(found: dict[str, Any]) -> str:
    head = _LARGE.format(**found, cpu=found["machine"]["cpu"], cores=found["machine"]["cores"])
    return head + "".join(f"| {name} | {verdict} | {took} |\n" for name, (verdict, took) in found["checks"].items())


def digest(content: dict[str, Any]) -> str:
    """Return a table with one line per fault, for docs/gate-detection.md."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in content["faults"].values():
        kinds[each["fault"]].append(each)
    names = "fault: its strengths", "true drop of nDCG@10", "red with 20 questions", "red with 200", "by"
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"
    return head + "".join(_digested(name, own) for name, own in kinds.items())


def _digested(name: str, found: list[dict[str, Any]]) -> str:
    drops = ", ".join("refused" if each["refused"] else f"{each['drop'] + 0:.3f}" for each in found)
    strengths = ", ".join(f"{each['strength']:g}" for each in found)
    few, many = (_strengths(found, size) for size in ("20", "200"))
    checks = dict.fromkeys(check for each in found for checks in each["red"].values() for check in checks)
    return f"| {name}: {strengths} | {drops} | {few} | {many} | {', '.join(checks) or '–'} |\n"


def _strengths(found: list[dict[str, Any]], size: str) -> str:
    red = [f"{each['strength']:g}" for each in found if each["red"].get(size)]
    return "all" if len(red) == len(found) else ", ".join(red) or "none"
