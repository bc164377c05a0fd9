"""Build the archive of functions/ that is deployed: the same files in, the same bytes out.

Its name is the hash of its bytes, so a commit that changes no function builds no image.
"""

import hashlib
import re
import sys
import zipfile
from io import BytesIO
from pathlib import Path

from infra.local import paths
from infra.local.progress import RefusalError, run, say

FUNCTIONS = paths.ROOT / "functions"
FOLDER = paths.LOCAL / "build"

# What may be in it. Whatever else lies in the folder (an .env, a key, caches) stays here.
_PATTERNS = ("**/*.py", "requirements.txt")
# A zip file's earliest time.
_TIME = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644


def archive(folder: Path) -> bytes:
    """Pack a folder. Nothing is compressed: another version of zlib would give other bytes."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
        for path in _files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _TIME)
            entry.create_system = 3  # Unix, whatever machine this is
            entry.external_attr = _FILE_MODE << 16
            file.writestr(entry, path.read_bytes())
    return packed.getvalue()


def name(content: bytes) -> str:
    """Name an archive by what is in it."""
    return f"functions-{hashlib.sha256(content).hexdigest()[:32]}.zip"


def _files(folder: Path) -> list[Path]:
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    if links:
        raise RefusalError(f"{links[0]} is a symbolic link: what it leads to is not deployed.")
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return [names[name] for name in sorted(names) if not re.search(r"(^|/)\.", name)]


def main() -> None:
    """Write the archive into the folder named, or .local/build, and print its path."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    content = archive(FUNCTIONS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name(content)
    file.write_bytes(content)
    say(paths.shown(file))


if __name__ == "__main__":
    run(main)
