"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distribution import BoundedScheduling, bounds
from hypothesis import settings
from redis_server import RedisServer, running_redis

from neuromas.loading import loading_libraries
from neuromas.tasks.chain import ChainTask

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from xdist.remote import Producer

    from neuromas.rollout.renderer import Renderer
    from neuromas.run.run import RunResult

# Before torch is imported, here and in processes that tests start: the models are too small for more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Fixed examples and no deadline: a test's outcome does not depend on luck or on how busy the machine is.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
# Every check of a run looks at 4,000 questions, which a task and its seed decide: drawn once in a process. They take a
# processor longer than all else that most tests of the API do.
ChainTask.sample = lru_cache(maxsize=32)(ChainTask.sample)  # type: ignore[method-assign]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> BoundedScheduling | None:
    return BoundedScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_xdist_auto_num_workers() -> int:
    workers, _ = bounds()
    return workers


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests, and with them all libraries."""
    with loading_libraries():
        return (yield)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    from dashboard_world import browsing

    with browsing() as browser:
        yield browser


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server that lives as long as the tests; use ``empty_redis``, or ``running_redis`` for one to kill."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def empty_redis(shared_redis: RedisServer) -> RedisServer:
    """A redis-server with nothing in it."""
    with shared_redis.client as client:
        client.flushall()
    return shared_redis


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen3 (2 layers, hidden 64, 2 heads of 32) with the tokenizer of the tiny base."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from neuromas.base.symbols import BOS, EOS, PAD, build_tokenizer, symbols

    folder = tmp_path_factory.mktemp("small_base")
    vocabulary = symbols()
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=168,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=vocabulary.index(BOS),
        eos_token_id=vocabulary.index(EOS),
        pad_token_id=vocabulary.index(PAD),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    build_tokenizer(128).save_pretrained(folder)
    (folder / "neuromas.json").write_text(json.dumps({"renderer": "compact"}))
    return folder


@pytest.fixture(scope="session")
def word_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tiny base's words as tokenizer files and a config, but no weights; made without torch."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    from neuromas.base.symbols import BOS, EOS, PAD, UNK, symbols

    folder = tmp_path_factory.mktemp("word_base")
    core = Tokenizer(WordLevel({symbol: place for place, symbol in enumerate(symbols())}, unk_token=UNK))
    core.pre_tokenizer = WhitespaceSplit()
    core.add_special_tokens([PAD, BOS, EOS, UNK])
    core.save(str(folder / "tokenizer.json"))
    shape = {"num_attention_heads": 2, "hidden_size": 64, "vocab_size": len(symbols()), "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(shape))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": BOS, "eos_token": EOS}))
    (folder / "neuromas.json").write_text(json.dumps({"renderer": "compact"}))
    return folder


@pytest.fixture(scope="session")
def renderer(word_base: Path) -> Renderer:
    """The renderer of the tiny base's words."""
    from neuromas.rollout.prompt import make_renderer
    from neuromas.spec.parts import PromptSpec

    return make_renderer(PromptSpec(), word_base)


@pytest.fixture(scope="module")
def trained_run(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A trained graph of two nodes that one output reads, on the small base, with two checkpoints."""
    from neuromas.run.run import run
    from neuromas.spec.parse import parse_run_spec

    spec = parse_run_spec(
        {
            "name": "served",
            "base": str(small_base),
            "topology": {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "out"}], "edges": [["a", "out"], ["b", "out"]]},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 2, "prompts_per_step": 2, "group_size": 2},
            "checkpoint": {"every": 1},
            "evaluation": {"examples": 8},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )
    return run(spec, tmp_path_factory.mktemp("runs"))
