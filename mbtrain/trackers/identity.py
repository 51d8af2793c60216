"""The name of a run in places shared with other runs: its folder's name and a random part, drawn once."""

import re
import secrets
from pathlib import Path


def run_identity(run_dir: str | Path) -> str:
    """At most 64 letters, digits, `.`, `_` and `-`, kept in `RUN/trackers/identity`.

    Not a hash of the path: a folder that is moved stays the same run, one that is deleted and made anew is another.
    """
    folder = Path(run_dir).resolve()
    kept = folder / "trackers" / "identity"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', folder.name)[:55]}-{secrets.token_hex(4)}")
    return kept.read_text()
