"""A file that a reader finds whole, as it was or as it is now."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path


def write_json(file: Path, content: object) -> None:
    """Writes JSON whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False, encoding="utf-8") as part:
        try:
            json.dump(content, part, indent=2, sort_keys=True, default=str)
            part.write("\n")
            part.flush()
        except OSError:
            Path(part.name).unlink()  # on a full disk even this small file is in the way
            raise
    Path(part.name).replace(file)
