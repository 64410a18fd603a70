"""The hub task: questions and answers from a data set in the layout of the hub: a folder of it here, or by its id.

Rows are read as those of files are (``neuromas.tasks.file``); the package ``datasets`` finds the splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from neuromas.errors import TaskError
from neuromas.schema.bounds import Key, Reference
from neuromas.tasks.base import Split
from neuromas.tasks.file import FileSpec
from neuromas.tasks.rows import Rows, plain_value

_FILES: Final = ["*.parquet", "*.jsonl", "*.json", "*.csv", "*.tsv", "*.arrow", "*.gz", "*.zst", "*.zip", "*.md"]
_ID: Final = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"


class HubSpec(FileSpec):
    """Questions and answers from a data set in the layout of the hub, in a folder or by its id (package datasets)."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)

    type: Literal["hub"]  # type: ignore[assignment]  # narrower than the family it derives from
    folder: Reference | None = None
    """Folder of the data set: parquet, JSON lines or CSV files as on the hub, or what save_to_disk wrote."""
    dataset: str | None = Field(default=None, pattern=_ID, max_length=200)
    """Id of a data set on the hub, owner/name, instead of a folder. It is taken from the local cache; one that is not
    there is downloaded, unless HF_HUB_OFFLINE is set."""
    revision: Key | None = None
    """Commit, branch or tag of the data set on the hub; None = what the cache has, else the newest."""
    subset: Key | None = None
    """Name of the subset, such as "main"; None = the only one, or the data set's default."""
    train: Key = "train"
    """Name of the split to train on; a part of one as "train[:90%]" (not of what save_to_disk wrote)."""
    test: Key = "test"
    """Name of the held-out split, or a part of one. A quarter of its questions is for decisions, the result is of the
    others."""

    @model_validator(mode="after")
    def _has_one_source(self) -> HubSpec:
        if (self.folder is None) == (self.dataset is None):
            raise ValueError("give either folder or dataset: a data set's folder here, or its id on the hub")
        if self.dataset is None and self.revision is not None:
            raise ValueError("revision does nothing beside folder; it chooses what is taken from the hub")
        return self

    def describe(self) -> str:
        """Return what is trained on."""
        return f"the data set {self._source}"

    def code(self) -> Mapping[str, str]:
        """Return the verifier where it is a function of the user's; and for an id what a service has to allow."""
        return {**super().code(), **({"dataset": "neuromas.tasks.hub:dataset"} if self.dataset is not None else {})}

    def place(self, split: Split) -> str:
        """Return the name of a split's source for messages."""
        return f"{self._source}, {getattr(self, split)}"

    def rows(self, split: Split) -> Rows:
        """Yield the rows of a split, each after its place.

        Raises:
            TaskError: the data set or the split cannot be had.
        """
        for number, row in enumerate(self._load(getattr(self, split)), start=1):
            yield f"row {number}", {key: plain_value(value) for key, value in row.items()}

    @property
    def _source(self) -> str:
        return str(self.folder if self.dataset is None else self.dataset)

    def _load(self, name: str) -> Any:
        """Return the data set's split of that name."""
        try:
            import datasets
        except ImportError as error:
            raise TaskError("task.type: hub needs the package datasets (it comes with neuromas[cpu])") from error
        folder = Path(str(self.folder)) if self.dataset is None else _from_hub(self.dataset, self.revision)
        if not folder.is_dir():
            raise TaskError(f"{folder} is not a folder (task.folder)")
        if (folder / "state.json").is_file():
            raise TaskError(f"{folder} is one split without a name; save a DatasetDict that has {name!r} too")
        datasets.disable_progress_bars()
        try:
            if (folder / "dataset_dict.json").is_file():
                return datasets.load_from_disk(str(folder))[name]
            return datasets.load_dataset(str(folder), self.subset, split=name)
        except Exception as error:
            # Of any kind: a split, a subset or a column that is not there, files that cannot be read.
            said = str(error).strip().partition("\n")[0]
            raise TaskError(f"{self._source}: the split {name!r} cannot be read: {said}") from error


def _from_hub(dataset: str, revision: str | None) -> Path:
    """Return the folder of a hub's data set in the local cache, downloaded if need be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for is_local in (True, False):
        try:
            return Path(
                snapshot_download(
                    dataset, repo_type="dataset", revision=revision, allow_patterns=_FILES, local_files_only=is_local
                )
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            fault = str(error).strip().partition("\n")[0]
    raise TaskError(
        f"{dataset} is not in the local hub cache and could not be downloaded: {fault} Without a way to the hub, copy "
        "the data set's folder here and give its path as task.folder"
    )
