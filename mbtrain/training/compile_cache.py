"""Where torch keeps what it compiled, and what a kill may leave there."""

import os
import re
from pathlib import Path

_LIBRARY = re.compile(r"(/\S+\.so)\b")


def cache_folder() -> str:
    """Where torch keeps what it compiled: the user's cache folder, where its own choice is the temporary one."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # torch sets the variable to its own choice as soon as it looks.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(home, "mbtrain", "compiled"))
    return os.environ["TORCHINDUCTOR_CACHE_DIR"]


def is_mended(error: BaseException) -> bool:
    """Whether `error` came of a library that a kill of the compiler has left unfinished, which is now removed.

    torch writes it under its final name, and would take it for whole in every later run.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ImportError | OSError) and (found := _LIBRARY.search(str(seen))):
            library = Path(found[1])
            if library.is_relative_to(cache_folder()) and library.is_file():
                library.unlink()
                return True
        seen = seen.__cause__ or seen.__context__
    return False
