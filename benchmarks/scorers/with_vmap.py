"""Per-sample gradients by torch.func: vmap over grad, on our batches, logits at label positions only."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model, lora_layers
from benchmarks.scorers.ours import BATCH_TOKENS, ragged_batches
from zigong.tokens.samples import LabelledBatch


def open_way(folder: Path) -> Way:
    """Loads the model."""
    model = load_model(folder)
    decoder = model.get_base_model()
    decoder.requires_grad_(False)
    names = {id(parameter): name for name, parameter in decoder.named_parameters()}
    layers = lora_layers(model).values()
    weights = {
        names[id(side["default"].weight)]: side["default"].weight.detach()
        for layer in layers
        for side in (layer.lora_A, layer.lora_B)
    }

    class LabelLoss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = decoder

        def forward(self, ids: Tensor, positions: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
            # Padding is on the right, after every label, so causal attention excludes it. The mask is given
            # complete: the code that builds it inspects values, which vmap forbids.
            size = ids.shape[0]
            mask = torch.ones(size, size, dtype=torch.bool).tril()[None, None]
            order = torch.arange(size)[None]
            hidden = self.decoder.base_model(
                input_ids=ids[None], attention_mask=mask, position_ids=order, use_cache=False
            ).last_hidden_state[0, positions]
            logits = self.decoder.get_output_embeddings()(hidden)
            losses: Tensor = logits.logsumexp(-1) - logits.gather(-1, targets[:, None])[:, 0]
            return (losses * shares).sum()

    loss = LabelLoss()

    def one(values: dict[str, Tensor], *sample: Tensor) -> Tensor:
        total: Tensor = functional_call(loss, {f"decoder.{name}": value for name, value in values.items()}, sample)
        return total

    gradients = vmap(grad(one), in_dims=(None, 0, 0, 0, 0))

    def way(samples: SampleSet, vectors: Vectors) -> Scoring:
        batches = [(indices, _rows(batch)) for indices, batch in ragged_batches(samples, BATCH_TOKENS)]
        stacked = torch.cat([part.flatten(1) for pair in vectors for part in pair], 1).T.contiguous()
        vectors.clear()

        def run() -> Tensor:
            scores = torch.zeros(len(samples), stacked.shape[1])
            with sdpa_kernel(SDPBackend.MATH):
                for indices, rows in batches:
                    found = gradients(weights, *rows)
                    scores[indices] = torch.cat([found[name].flatten(1) for name in weights], 1) @ stacked
            return scores

        return run

    return way


def _rows(batch: LabelledBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids [N, S], and positions, targets and shares of the labels [N, L], a missing label having share 0."""
    counts = torch.bincount(batch.label_rows, minlength=len(batch))
    place = torch.arange(len(batch.label_rows)) - (counts.cumsum(0) - counts)[batch.label_rows]
    shape = (len(batch), int(counts.max()))
    positions, targets = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    shares = torch.zeros(shape)
    positions[batch.label_rows, place] = batch.label_positions
    targets[batch.label_rows, place] = batch.label_targets
    shares[batch.label_rows, place] = 1 / counts[batch.label_rows]
    return batch.input_ids, positions, targets, shares


if __name__ == "__main__":
    answer_requests(open_way)
