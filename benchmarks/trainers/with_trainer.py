"""Hugging Face's Trainer, or TRL's SFTTrainer with its defaults: `with_trainer.py FOLDER SET trainer|trl`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from benchmarks.scorers.inputs import VOCABULARY, SampleSet
from benchmarks.trainers.inputs import BATCH, RATE, answered, fresh_model, lora, padded, training_set


def tokenizer() -> PreTrainedTokenizerFast:
    """A word per token: w17 is token 17."""
    unknown, end = "w0", "w2"
    made = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=unknown, eos_token=end, unk_token=unknown)


def text_of(ids: list[int]) -> str:
    """The text of token ids."""
    return " ".join(f"w{index}" for index in ids)


def with_trainer(folder: Path, samples: SampleSet, place: str) -> None:
    """The same samples, batch size, rate and precision as ours; labels at the answers."""
    rows = [{"index": index} for index in range(len(samples))]

    def collate(batch: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        ids, mask, labels = padded(samples, [row["index"] for row in batch])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(
        output_dir=place, per_device_train_batch_size=BATCH, learning_rate=RATE, lr_scheduler_type="constant",
        num_train_epochs=1, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(model=fresh_model(folder), args=arguments, train_dataset=rows, data_collator=collate)
    with answered() as figures:
        figures["loss"] = trainer.train().training_loss


def with_trl(folder: Path, samples: SampleSet, place: str) -> None:
    """SFTTrainer with its defaults, text in, one epoch; but not bf16, which CPUs only imitate."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"prompt": text_of(prompt), "completion": " " + text_of(answer)}
        for prompt, answer in zip(samples.prompts, samples.answers, strict=True)
    ]
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    arguments = SFTConfig(
        output_dir=place, num_train_epochs=1, learning_rate=RATE, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True, bf16=False,
    )  # fmt: skip
    with answered() as figures:
        trainer = SFTTrainer(
            model=base, args=arguments, train_dataset=Dataset.from_list(rows), peft_config=lora(),
            processing_class=tokenizer(),
        )  # fmt: skip
        figures["loss"] = trainer.train().training_loss


def main(folder: str, name: str, which: str) -> None:
    """Trains one epoch."""
    samples = training_set(name)
    with tempfile.TemporaryDirectory() as place:
        (with_trl if which == "trl" else with_trainer)(Path(folder), samples, place)


if __name__ == "__main__":
    main(*sys.argv[1:])
