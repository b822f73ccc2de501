"""Shards served by a real Ray cluster, whose processes are stopped and killed while clients ask."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import reperio
from reperio import (
    Chunk,
    Collection,
    CollectionError,
    Hit,
    InvalidInput,
    ReperioWarning,
    SentenceTransformerEmbedder,
    ShardUnavailable,
    UnsupportedFormat,
)
from reperio.cli.main import app
from reperio.sharding.serving.asking import PartialHits
from reperio.sharding.serving.cluster import served, serving
from reperio.sharding.serving.collection import ShardedCollection
from tests.sharding.serving.cluster import (
    Traffic,
    a_cluster,
    host_of_a_replica,
    members,
    process_of,
    send,
    shared_host,
    wait_until,
)
from tests.sharding.serving.made import fill, make_shards
from tests.test_readme import blocks, require_extras

pytest.importorskip("ray", reason="Ray is not installed: pip install 'reperio[ray]'")
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]

SHARDS, DIMENSION = 2, 8
Questions = list[tuple[dict[str, Any], list[Hit]]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "shards"
    rng = np.random.default_rng(1)
    chunks = [Chunk(f"c{number}", f"text word{number % 30} of {number}", {"n": number % 5}) for number in range(400)]
    manifest = make_shards(path, SHARDS, dimension=DIMENSION)
    fill(path, manifest, chunks, rng.standard_normal((len(chunks), DIMENSION)))
    return path


@pytest.fixture(scope="module")
def questions(root: Path) -> Questions:
    """Questions of every mode, and what the same shards answer in this process."""
    rng = np.random.default_rng(2)
    asked: list[dict[str, Any]] = []
    for number in range(12):
        vector = rng.standard_normal(DIMENSION)
        asked += [
            {"vector": vector, "k": 5},
            {"query": f"word{number} of", "mode": "lexical", "k": 5},
            {"query": f"word{number}", "vector": vector, "mode": "hybrid", "k": 5, "where": {"n": {"$lt": 4}}},
        ]
    with reperio.open_shards(root) as kb:
        return [(options, kb.search(**options)) for options in asked]


@pytest.fixture(scope="module")
def cluster(only_ray: None) -> Iterator[Any]:  # noqa: ARG001  # held
    # A path of sockets has at most a hundred characters.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        a_cluster(Path(folder), hosts=1) as made,
    ):
        yield made


@pytest.fixture
def kb(root: Path, cluster: Any) -> Iterator[Collection]:
    assert cluster.worker_nodes
    with reperio.open_shards(root, serve="ray", deadline=30) as opened:
        for one in opened._shards.fleet().router.groups:  # both replicas are there before anything is done to them
            for member in one.members:
                process_of(member)
        yield opened


def test_no_answer_fails_or_is_wrong_while_one_of_two_replicas_is_gone(
    kb: Collection, questions: Questions, cluster: Any, record_property: Any
) -> None:
    """Killed, stopped, or with its host: the other one answers, and the lost one is replaced."""
    host = host_of_a_replica(cluster, kb)  # now: where Ray puts replacements on a busy machine is its own choice
    with Traffic(kb, questions) as traffic:
        traffic.more(100)
        for number, how in enumerate((signal.SIGKILL, signal.SIGSTOP)):
            group = kb._shards.fleet().router.groups[number % SHARDS]
            replaced = group.replaced
            send(process_of(group.members[0]), how)
            traffic.more(200)
            wait_until(lambda group=group, before=replaced: group.replaced > before, "replaced")
            traffic.more(50)
        cluster.remove_node(host, allow_graceful=False)
        traffic.more(300)
    record_property("told", f"{traffic.answered} answers, the slowest after {traffic.worst:.3f} s")
    assert not traffic.wrong, traffic.wrong[0]
    assert not traffic.failed, traffic.failed[0]
    wait_until(lambda: all(len(each) == 2 for each in members(kb).values()), "two replicas of each shard")


@pytest.mark.usefixtures("cluster")
def test_a_shard_without_replicas_is_a_typed_error_and_the_others_are_served(root: Path, questions: Questions) -> None:
    """Within the deadline; partial answers come only to those who have asked for them, and say so."""
    options, expected = questions[0]
    with reperio.open_shards(root, serve="ray", deadline=1.0) as whole:
        partial = ShardedCollection(whole._shards, whole._embedder, allow_partial=True)  # of the same replicas
        first, second = (group.name for group in whole._shards.fleet().router.groups)
        assert partial.search(**options) == expected
        for member in members(whole)[first]:
            send(process_of(member), signal.SIGSTOP)
        with pytest.raises(ShardUnavailable, match=first) as caught:
            whole.search(**options)
        assert caught.value.shards == (first,)
        with pytest.warns(ReperioWarning, match=f"without the shards {first}"):
            found = partial.search(**options)
        assert (
            not whole._shards.fleet().router.groups[0].is_well(0.25)
        )  # so others do not wait for it up to the deadline
        assert isinstance(found, PartialHits)
        assert found.missing == (first,)
        there = [hit for hit in expected if whole._shards.fleet().place_of(hit.chunk.id) == 1]
        assert [hit.chunk for hit in found if hit.chunk in [one.chunk for one in there]] == [one.chunk for one in there]
        with pytest.raises(ShardUnavailable):
            partial.count()
        assert whole.get([hit.chunk.id for hit in there]) == [hit.chunk for hit in there]
        assert second not in caught.value.shards
        wait_until(lambda: _answers(whole, options, expected), "answered by new replicas")


@pytest.mark.campaign  # with the next one a quarter of the time of all tests with Ray
def test_what_is_stopped_stays_so_and_the_name_is_free(
    root: Path, cluster: Any, questions: Questions, tmp_path: Path
) -> None:
    """Though a client of before starts its replicas again: none of them answers for what is served next."""
    options, expected = questions[0]
    other = tmp_path / "other"
    manifest = make_shards(other, SHARDS, dimension=DIMENSION)
    fill(other, manifest, [Chunk(f"other {number}") for number in range(20)], np.eye(20, DIMENSION) + 0.1)
    given: dict[str, Any] = {"address": cluster.address, "replicas": 1, "limits": reperio.Limits()}
    serving.serve(root, "kb", **given)
    with pytest.raises(InvalidInput, match="served with 1 replicas of each shard, not with 2"):
        serving.serve(root, "kb", **given | {"replicas": 2})
    with reperio.open_shards("ray://kb", deadline=1, hedge=0.1) as before:
        assert before.search(**options) == expected
        serving.stop("kb", address=cluster.address)
        with pytest.raises(ShardUnavailable):
            before.search(**options)
        wait_until(lambda: "no shards are served under the name" in _refusal(before), "told why")
        assert serving.serve(other, "kb", **given) == [entry.name for entry in manifest.shards]
        with reperio.open_shards("ray://kb") as now:
            assert now.count() == 20
            wait_until(lambda: _count(before) == 20, "found by the client of before")
        assert len(served._names("kb/")) == SHARDS
    shutil.rmtree(other)
    serving.stop("kb", address=cluster.address)
    assert not served._names("kb")
    with pytest.raises(ShardUnavailable, match="no shards are served under the name 'kb'"):
        serving.stop("kb", address=cluster.address)


@pytest.mark.campaign
def test_serving_that_fails_leaves_nothing(root: Path, cluster: Any, tmp_path: Path) -> None:
    """Neither a catalog that keeps the name, nor the replicas of the other shards."""
    shutil.copytree(root, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "shards" / "shard-000002")
    with pytest.raises(ShardUnavailable, match="no replica of shard-000002 could be started"):
        serving.serve(tmp_path / "broken", "b", address=cluster.address, replicas=1, limits=reperio.Limits())
    assert not served._names("b")


def test_another_cluster_than_the_one_connected_to_is_refused(cluster: Any) -> None:
    """Ray has one at a time, and would look for the name there."""
    port = int(cluster.address.rsplit(":", 1)[1])
    with pytest.raises(InvalidInput, match=f"connected to the Ray cluster at {cluster.address}"):
        reperio.open_shards(f"ray://127.0.0.1:{port - 1}/kb")


@pytest.mark.usefixtures("cluster")
def test_what_an_actor_does_not_know_is_a_typed_error(root: Path) -> None:
    """A method, as of a client of another version, and what it cannot read."""
    with reperio.open_shards(root, serve="ray", replicas=1) as kb:
        router = kb._shards.fleet().router
        with pytest.raises(UnsupportedFormat, match="a Reperio without 'dream'"):
            router.ask("dream", {0: None}, until=time.monotonic() + 30)
        with pytest.raises(CollectionError, match=r"has failed .*another version of Reperio"):
            router.ask("count", {0: object()}, until=time.monotonic() + 30)


@pytest.mark.model
def test_every_block_of_the_page_runs(
    cluster: Any, minilm: SentenceTransformerEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python and commands, with shards that are searched here, served for one program, and served under a name."""
    monkeypatch.chdir(tmp_path)
    manifest = make_shards(tmp_path / "kb-shards", 2, embedder=minilm)
    texts = {
        "faq-17": "To reset your password, follow the link.",
        "faq-2": "We deliver on Mondays.",
        "faq-3": "Call us.",
    }
    chunks = [Chunk(key, text, {"lang": "en"}) for key, text in texts.items()]
    fill(tmp_path / "kb-shards", manifest, chunks, None, embedder=minilm)
    ran, space = list[str](), dict[str, Any](reperio=reperio)
    for block in blocks("docs/serving-shards.md"):
        if block.language == "python":
            exec(compile(block.content.replace("10.0.0.7:6379", cluster.address), "docs", "exec"), space)
            ran.append("python")
            continue
        assert block.language == "console"
        for line in block.content.splitlines():
            words = shlex.split(line)
            if words[0] == "pip":
                require_extras(words[2])
            elif words[0] == "reperio":
                if words[2] == "stop":
                    continue  # at the end: Python comes after it
                done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words[1:])
                assert done.exit_code == 0, done.output
                ran.append(done.stdout)
    with space["kb"] as kb:
        assert kb.search("how do I reset my password", k=1)[0].chunk.id == "faq-17"
        assert [each.replicas for each in kb.status()] == [2, 2]
    assert any("faq-17" in told for told in ran)
    assert CliRunner().invoke(app, ["shards", "serve", "kb-shards", "--name", "kb"]).exit_code == 0  # nothing to do
    (tmp_path / "other").mkdir()
    make_shards(tmp_path / "other" / "kb", 1, dimension=2)
    refused = CliRunner().invoke(app, ["shards", "serve", str(tmp_path / "other" / "kb"), "--name", "kb"])
    assert refused.exit_code == 2
    assert CliRunner().invoke(app, ["shards", "stop", "kb"]).exit_code == 0
    with pytest.raises(ShardUnavailable, match="no shards are served under the name 'kb'"):
        reperio.open_shards("ray://kb")


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_replicas_are_lost_at_random(
    root: Path, cluster: Any, questions: Questions, capsys: pytest.CaptureFixture[str]
) -> None:
    """REPERIO_KILLS times (20 by default) a replica is killed or stopped, or a host is lost, under eight clients."""
    times, rng, worst = int(os.environ.get("REPERIO_KILLS", "20")), random.Random(17), list[float]()
    with reperio.open_shards(root, serve="ray", deadline=60) as kb:
        groups = kb._shards.fleet().router.groups
        for trial in range(times):
            wait_until(lambda: all(len(each) == 2 for each in members(kb).values()), "two replicas", 120)
            with Traffic(kb, questions) as traffic:
                traffic.more(30)
                how = rng.choice(["kill", "stop", "host"] if trial % 3 == 2 else ["kill", "stop"])
                if how == "host" and cluster.worker_nodes and not shared_host(cluster, kb):
                    cluster.remove_node(host_of_a_replica(cluster, kb), allow_graceful=False)
                    traffic.more(100)
                    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
                else:
                    group = rng.choice(groups)
                    replaced = group.replaced
                    send(process_of(rng.choice(group.members)), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
                    wait_until(lambda group=group, before=replaced: group.replaced > before, f"replaced: {how}", 120)
                traffic.more(30)
            worst.append(traffic.worst)
            assert not traffic.wrong, f"trial {trial}, {how}: {traffic.wrong[0]}"
            assert not traffic.failed, f"trial {trial}, {how}: {traffic.failed[0]}"
    with capsys.disabled():
        sys.stdout.write(
            f"\n{times} losses; slowest answer: median {np.median(worst):.3f} s, worst {max(worst):.3f} s\n"
        )


def _refusal(kb: Collection) -> str:
    try:
        kb.count()
    except ShardUnavailable as error:
        return str(error)
    return ""


def _count(kb: Collection) -> int:
    try:
        return kb.count()
    except ShardUnavailable:
        return -1


def _answers(kb: Collection, options: dict[str, Any], expected: list[Hit]) -> bool:
    try:
        return kb.search(**options) == expected
    except ShardUnavailable:
        return False
