"""The user's file of a sweep: one TrainingSweep and the objects that its runs refer to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.local.runfile import InvalidFile, RunFile, only_object, valid_files, with_references
from atoll_operator.api.manifests import ManifestFiles
from atoll_operator.api.sweep import TrainingSweepSpec, training_sweep
from atoll_operator.api.validation import check
from atoll_operator.sweeps.space import corner_settings, trial_run


@dataclass(frozen=True)
class SweepFile:
    """A sweep with the objects of its files. `document` is the sweep's with its defaults and a namespace."""

    document: Mapping[str, Any]
    spec: TrainingSweepSpec
    files: ManifestFiles
    store: Path
    signing_key: Path | None = None

    @property
    def namespace(self) -> str:
        return str(self.document["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    def run_file(self, run: Mapping[str, Any]) -> RunFile:
        """The file of a trial. Raises InvalidFile or SpecError where it cannot be carried out."""
        checked = check(run)
        if checked.problems:
            name = run["metadata"]["name"]
            raise InvalidFile(f"the run {name} of the sweep: {problem}" for problem in checked.problems)
        return with_references(checked.value, self.files, store=self.store, signing_key=self.signing_key)


def read_sweep_file(paths: Iterable[Path], *, store: Path, signing_key: Path | None = None) -> SweepFile:
    """Reads the sweep in `paths`, and checks a run with each value of each parameter, before any is trained.

    Raises:
        InvalidFile: an object or one of the runs is not valid.
        SpecError: the files do not hold exactly one TrainingSweep, or a run exceeds the limits of its profile.
    """
    files = valid_files(paths)
    document = only_object(files, "TrainingSweep")
    file = SweepFile(document, training_sweep(document), files, store, signing_key)
    owned = {**document, "metadata": {**document["metadata"], "uid": "check"}}
    for settings in corner_settings(file.spec):
        file.run_file(trial_run(owned, file.spec, settings, number=0))
    return file
