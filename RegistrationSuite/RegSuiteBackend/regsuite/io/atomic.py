"""Writing that is all or nothing: a file or a folder appears complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regsuite.errors import OutputError

_NAME_LENGTH = 60  # of the target's name kept in the temporary name, so that long names stay legal


@contextmanager
def staged_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path with the same name in a hidden folder beside `path`; on success everything written there moves to
    `path`'s folder (a .mhd brings its .zraw), on any failure or interrupt it is removed and `path` stays as it was.

    Raises OutputError when the folder does not exist, is not writable or is full, or `path` is a folder.
    """
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise OutputError(f"Cannot write '{target}': expected the name of a file, found a folder.")
    if not folder.is_dir():
        raise OutputError(f"Cannot write '{target}': the folder '{folder}' does not exist.")
    stage = _make_stage(folder, target)
    try:
        yield stage / target.name
        if not (stage / target.name).is_file():
            raise OutputError(f"Cannot write '{target}': nothing was written.")
        # Detached data first: whoever sees the new header also sees its data.
        others = [item for item in stage.iterdir() if item.name != target.name]
        for item in [*others, stage / target.name]:
            os.replace(item, folder / item.name)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write '{target}': {_reason(error)}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def staged_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden temporary folder; on success what it holds moves into `out` (made with its parents if need be; files
    of the same name are replaced, others stay), on any failure or interrupt it is removed and `out` is as it was.

    Raises OutputError at once, before the long work, when `out` is a file or cannot be made or written.
    """
    target = Path(out)
    try:
        if target.exists() and not target.is_dir():
            raise OutputError(f"Cannot write to '{target}': expected a folder, found a file.")
        existed = target.is_dir()
    except PermissionError as error:
        raise OutputError(f"Cannot write to '{target}': {_reason(error)}.") from error
    stage = _make_stage_for_folder(target, existed)
    try:
        yield stage
        try:
            if existed:
                _move_into(stage, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                stage.chmod(0o777 & ~_umask())  # mkdtemp makes private folders
                _publish(stage, target)
        except OSError as error:
            raise OutputError(f"Cannot write to '{target}': {_reason(error)}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def require_space(path: str | os.PathLike[str], size_bytes: int) -> None:
    """Raise OutputError when the disk that holds `path`'s folder has less than `size_bytes` free."""
    folder = Path(path).parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"Cannot write to the folder '{folder}': {_reason(error)}.") from error
    if free < size_bytes:
        raise OutputError(
            f"Cannot write '{Path(path).name}' in '{folder}': needs {size_bytes / 1e6:.0f} MB, found {free / 1e6:.0f} MB free."
        )


def _make_stage(folder: Path, target: Path) -> Path:
    """A new hidden folder in `folder`, or OutputError."""
    try:
        return Path(tempfile.mkdtemp(prefix=f".{target.name[:_NAME_LENGTH]}.", suffix=".partial", dir=folder))
    except OSError as error:
        raise OutputError(f"Cannot write '{target}': {_reason(error)} in the folder '{folder}'.") from error


def _make_stage_for_folder(target: Path, existed: bool) -> Path:
    """Beside `target` where that lies on the same disk and can be written, else inside it; OutputError if `target` cannot."""
    if not existed:
        ancestor = next(p for p in target.absolute().parents if p.exists())
        if not ancestor.is_dir():
            raise OutputError(f"Cannot make the folder '{target}': '{ancestor}' is a file.")
        return _make_stage(ancestor, target)
    _make_stage(target, target).rmdir()  # proves that results can be put there, before the long work
    parent = target.resolve().parent
    if os.access(parent, os.W_OK) and parent.stat().st_dev == target.stat().st_dev:
        return _make_stage(parent, target)
    return _make_stage(target, target)


def _publish(stage: Path, target: Path) -> None:
    """Rename the finished stage to `target`; if somebody made `target` meanwhile, move into it."""
    try:
        os.rename(stage, target)
    except OSError:
        if not target.is_dir():
            raise
        _move_into(stage, target)


def _move_into(source: Path, target: Path) -> None:
    """Move every file below `source` to the same place below `target`, each by an atomic rename."""
    for item in sorted(source.iterdir()):
        place = target / item.name
        if item.is_dir():
            place.mkdir(exist_ok=True)
            _move_into(item, place)
        else:
            os.replace(item, place)


def _umask() -> int:
    """The process's umask (it can only be read by setting it)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _reason(error: OSError) -> str:
    """A few plain words for an operating system error."""
    words = {errno.EACCES: "no permission", errno.EPERM: "no permission", errno.EROFS: "the disk is read-only",
             errno.ENOSPC: "no space left on the disk", errno.EDQUOT: "the disk quota is used up",
             errno.ENAMETOOLONG: "the name is too long"}
    return words.get(error.errno or 0, (error.strerror or str(error)).lower())
