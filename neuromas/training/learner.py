"""Learner: trains stages one after the other, evaluates, writes checkpoints and emits events. Runs without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.frozen_base import DTYPES
from neuromas.adapters.ref import AdapterRef
from neuromas.base.resolve import read_base, resolve_base
from neuromas.checkpoints.checkpoint import CheckpointWriter, read_checkpoint
from neuromas.checkpoints.location import FOLDER
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Observer, StageEnded, StageStarted, ignore
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import RolloutClient
from neuromas.rollout.record import Provenance
from neuromas.spec.run import RunSpec
from neuromas.tasks.held_out import held_out
from neuromas.tasks.registry import make_task
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import Evaluation, EvaluationRequest, accuracy, node_roles, vote
from neuromas.training.peers import Peers, find_peers
from neuromas.training.session import StageSession
from neuromas.training.sharded_base import Sharding
from neuromas.training.study import Study
from neuromas.training.trl_arguments import stays_on_cpu
from neuromas.training.workplace import Workplace


class Learner:
    """The object that holds a run's trainer process. Weights never leave it but as published versions and checkpoints.

    Every method is called from one thread, except ``request_stop``.
    """

    def __init__(
        self, spec: RunSpec, folder: Path, client: RolloutClient, on_event: Observer, peers: Peers | None = None
    ) -> None:
        """Set up the process.

        Args:
            spec: the run.
            folder: the run's folder; checkpoints go to ``checkpoints`` in it.
            client: the rollout workers.
            on_event: receives the events; in a data-parallel process other than the first, nothing.
            peers: the data-parallel processes; None finds them.
        """
        found = find_peers() if peers is None else peers
        emit = on_event if found.rank == 0 else ignore
        device = "cpu" if stays_on_cpu(spec.runtime) else "cuda"
        sharding = Sharding(found, device) if spec.runtime.shard_base else None
        self._place = Workplace(spec, folder, client, emit, found, sharding=sharding)
        self._base = resolve_base(spec.base)
        self._task = make_task(spec.task, spec.seed)
        self._tokenizer = AutoTokenizer.from_pretrained(self._base, local_files_only=True)
        if self._tokenizer.eos_token_id is None:  # TRL pads with it, and takes it for the end of a message
            end = read_base(self._base).stop_token_ids[0]
            self._tokenizer.eos_token = self._tokenizer.convert_ids_to_tokens(end)
        is_first, keep_last = found.rank == 0, spec.checkpoint.keep_last
        self._writer = CheckpointWriter(folder / FOLDER, keep_last) if is_first else None
        self._evaluations = 0

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train a stage to its end, or until ``request_stop``.

        Args:
            stage: what to train.
            resume: checkpoint of this very stage to go on from.

        Raises:
            TrainingError: the update cannot be computed, or (ParityError) trainer and engine disagree.
            RolloutError: too many rollouts failed.
            CheckpointError: ``stage.start`` or ``resume`` cannot be used.
        """
        if self._place.sharding is not None:
            self._place.sharding.turns.begin()
        model, bank = self._build(stage.topology)
        session = StageSession(self._place, stage, resume, model, bank, self._task, self._tokenizer, self._writer)
        self._place.emit(
            StageStarted(
                stage=stage.index,
                name=stage.name,
                topology=stage.topology.to_document(),
                level=stage.level,
                steps=stage.steps,
                trainable_parameters=sum(owned.tensor.numel() for owned in bank.trained()),
                first_step=session.first_step,
            )
        )
        try:
            outcome = session.run()
        finally:
            session.close()
        self._place.emit(StageEnded(stage=stage.index, name=stage.name, steps=outcome.steps, reason=outcome.reason))
        return outcome

    def request_stop(self) -> None:
        """End the running stage after its current step, with a checkpoint; may be called from any thread."""
        self._place.stopping.set()

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Roll a checkpoint's graph, or an untrained one, out on held-out examples and count."""
        source = request.source
        if isinstance(source, Topology):
            return self._evaluate(request, source, dict.fromkeys(source.adapters))
        checkpoint = read_checkpoint(source)
        _, bank = self._build(checkpoint.topology)
        bank.load_all(checkpoint.adapters)
        self._evaluations += 1
        namespace = f"{self._place.spec.name}/evaluation-{self._evaluations}"
        refs = {name: AdapterRef(name, 0, namespace) for name in bank.names}
        weights = bank.export_all()
        self._place.client.publish({ref: weights[name] for name, ref in refs.items()})
        try:
            return self._evaluate(request, checkpoint.topology, refs)
        finally:
            self._place.client.publish({}, tuple(refs.values()))

    def study(self, study: Study) -> dict[str, Any]:
        """Return what a study finds out about a trained graph."""
        return study(self._place)

    def _evaluate(
        self, request: EvaluationRequest, topology: Topology, refs: Mapping[str, AdapterRef | None]
    ) -> Evaluation:
        spec = self._place.spec
        batch = RolloutBatch(
            topology=topology,
            examples=held_out(self._task, request.level, request.examples, request.part),
            group_size=request.votes,
            adapters=refs,
            sampling=spec.sampling,
            greedy=request.greedy,
            seed=spec.evaluation.seed,
            provenance=Provenance(spec.name, 0, 0),
            task=self._task,
        )
        groups = self._place.client.collect(self._place.client.submit(batch))
        counted = [vote(group, self._task) for group in groups]
        positions = {node: topology.position(node) for node in topology.order}
        return Evaluation(accuracy(counted), tuple(node_roles(counted, self._task, positions)))

    def _build(self, topology: Topology) -> tuple[torch.nn.Module, AdapterBank]:
        spec = self._place.spec
        return build_model(self._base, spec.adapters, topology, spec.seed, DTYPES[spec.engine.dtype])
