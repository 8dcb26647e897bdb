"""Deletes a run of the local engine: its state and what it left in the store. What a release needs stays."""

import shutil
from pathlib import Path

from atoll_cli.releases import list_releases
from atoll_cli.ui.runs import LocalRun
from atoll_contract import keys
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.store.base import Store


def delete_run(run: LocalRun, store: Store, page_files: Path) -> None:
    """Delete a run that has ended: its objects first, its record last, so that a second try finds what is left.
    `page_files` is the folder in which the page keeps its run.yaml.

    Raises:
        SpecError: it has not ended, or an engine works on it.
        IntegrityError: a release cannot be read, so that nobody knows what it needs.
    """
    folder = run.folder
    if not run.status.is_terminal:
        raise SpecError(f"run {folder.name} has not ended ({run.status.phase}); cancel it first")
    with folder.locked():
        needed = {file.key for item in list_releases(store, folder.namespace) for file in item.manifest.files}
        for info in list(store.list(keys.run_prefix(RunRef(folder.namespace, folder.name, run.record.uid)))):
            if info.key not in needed:
                store.delete(info.key)
        shutil.rmtree(folder.results, ignore_errors=True)
        for suffix in ("yaml", "json", "log"):
            (page_files / f"{folder.name}.{suffix}").unlink(missing_ok=True)
        folder.record.unlink(missing_ok=True)
    shutil.rmtree(folder.path, ignore_errors=True)
