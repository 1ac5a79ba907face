"""A bare PyTorch loop over the batches of our trainer: `bare.py FOLDER SET answers|all`.

``answers`` computes logits at the answers alone, as ours; ``all`` at every token, as Hugging Face's ``labels`` do.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch.nn import functional

from benchmarks.trainers.inputs import RATE, answered, fresh_model, padded, training_set
from benchmarks.trainers.ours import planned_batches


def main(folder: str, name: str, logits: str) -> None:
    """Trains one epoch."""
    samples, model = training_set(name), fresh_model(Path(folder))
    steps = planned_batches(samples, "samples")
    model.train()
    body, head = model.get_base_model().model, model.get_base_model().lm_head
    parameters = [item for item in model.parameters() if item.requires_grad]
    with answered() as figures:
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
        losses = []
        for step in steps:
            ids, mask, labels = padded(samples, step)
            if logits == "all":
                loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            else:
                states = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                kept = labels[:, 1:] != -100
                loss = functional.cross_entropy(head(states[:, :-1][kept]), labels[:, 1:][kept])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
        figures["loss"] = sum(losses[-3:]) / 3


if __name__ == "__main__":
    main(*sys.argv[1:])
