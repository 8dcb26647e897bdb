"""What operating systems and tools leave beside the files of a user: no part of a data set."""

from pathlib import PurePosixPath

_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "icon\r"})
_FOLDERS = frozenset(
    {
        "__macosx",
        ".git",
        ".svn",
        ".idea",
        ".vscode",
        ".ipynb_checkpoints",
        "__pycache__",
        ".spotlight-v100",
        ".fseventsd",
        ".trashes",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    }
)


def is_litter(name: str) -> bool:
    """Whether the member of this path is litter: resource forks, previews, folders of version control and the like."""
    path = PurePosixPath(name)
    base = path.name.lower()
    folders = (part.lower() for part in path.parts[:-1])
    return base.startswith("._") or base in _FILES or any(folder in _FOLDERS for folder in folders)
