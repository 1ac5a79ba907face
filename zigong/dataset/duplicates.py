"""Finds duplicate samples: within train, and between train and the held-out splits.

A text is a prompt with its answer. Equal texts are found by hash, near-equal ones by MinHash over the distinct texts;
the similarity of every reported pair is computed exactly. Texts of one split unit are never near duplicates of each
other, since the samples of a client at adjacent dates share most of their history by design. Event text has a small
vocabulary, so equal texts of different clients are normal data; the recipe decides whether they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from zigong.dataset.minhash import Bands, Sketcher
from zigong.recipe import Duplicates

TRAIN = "train"
PAIR_COLUMNS = "text string, split string, other_text string, similarity double"
_BUCKET = ["completion", "band", "bucket"]


@dataclass(frozen=True, kw_only=True)
class Repetitions:
    """Number of train samples that repeat another sample.

    Attributes:
        exact: samples with the text of a train sample with a smaller id.
        near: samples whose text is near a train text with a smaller first id.
        held_out_exact: by held-out split, samples whose text is also in that split.
        held_out_near: by held-out split, samples whose text is near, but not equal to, a text in that split.
        crowded_texts: texts that exceeded the size limit of a bucket; pairs among them may be missing.
    """

    exact: int
    near: int
    held_out_exact: dict[str, int]
    held_out_near: dict[str, int]
    crowded_texts: int

    def metrics(self) -> dict[str, float]:
        """The counts as a flat mapping of metrics."""
        held_out = {"exact": self.held_out_exact, "near": self.held_out_near}
        return {
            "duplicates.exact": self.exact,
            "duplicates.near": self.near,
            "duplicates.crowded_texts": self.crowded_texts,
            **{f"contamination.{kind}.{s}": n for kind, by_split in held_out.items() for s, n in by_split.items()},
        }

    def sentence(self, settings: Duplicates) -> str:
        """The counts as a sentence for the report."""
        within = f"{self.exact:,} train samples equal another ({settings.exact}), {self.near:,} are near another unit's"
        splits = sorted({*self.held_out_exact, *self.held_out_near})
        held_out = [
            f"{self.held_out_exact.get(split, 0):,} equal and {self.held_out_near.get(split, 0):,} are near {split}"
            for split in splits
        ]
        crowd = f"; {self.crowded_texts:,} crowded texts were not compared with all" if self.crowded_texts else ""
        return (
            f"{within} ({settings.near}); {', '.join(held_out) or 'none is held out'} ({settings.contamination}){crowd}"
        )


@dataclass(frozen=True, kw_only=True)
class NearPairs:
    """Pairs of texts at or above the threshold.

    Attributes:
        pairs: text, its split, other_text (a train text), similarity. Within train, text has the smaller first id.
        crowded: texts (text, split) beyond the first ``max_bucket`` of a bucket, which were compared with these only.
    """

    pairs: DataFrame
    crowded: DataFrame


def distinct_texts(members: DataFrame, unit: str) -> DataFrame:
    """The texts of every split.

    Args:
        members: columns sample_id, text_hash, completion, split, input_ids and the split unit.
        unit: user_id or person_id.

    Returns:
        text, split, completion, first_id (its smallest sample_id), samples, one_unit (null if several units have the
        text), input_ids.
    """
    of_one = F.min(unit).eqNullSafe(F.max(unit))
    return (
        members.groupBy("text_hash", "completion", "split")
        .agg(
            F.min("sample_id").alias("first_id"),
            F.count("*").alias("samples"),
            F.when(of_one, F.min(unit)).alias("one_unit"),
            F.min("input_ids").alias("input_ids"),
        )
        .select(_text().alias("text"), "split", "completion", "first_id", "samples", "one_unit", "input_ids")
    )


def near_pairs(texts: DataFrame, settings: Duplicates) -> NearPairs:
    """Pairs of different texts with the same answer, of different units, at least one of them in train.

    Args:
        texts: as returned by ``distinct_texts``.
    """
    sketches = _sketches(texts, settings)
    banded = sketches.select(
        "text",
        "split",
        "completion",
        "first_id",
        "one_unit",
        F.size("shingles").alias("size"),
        F.posexplode("buckets").alias("band", "bucket"),
    )
    place = F.row_number().over(Window.partitionBy(*_BUCKET, "split").orderBy("first_id"))
    placed = banded.withColumn("place", place)
    met = _met(placed.where(F.col("place") <= settings.max_bucket), banded, settings.threshold)
    left = sketches.select("text", "split", F.col("shingles").alias("left"))
    right = sketches.where(F.col("split") == TRAIN).select(
        F.col("text").alias("other_text"), F.col("shingles").alias("right")
    )
    compared = met.join(left, ["text", "split"]).join(right, "other_text")
    pairs = compared.select("text", "split", "other_text", _similarity("left", "right").alias("similarity"))
    return NearPairs(
        pairs=pairs.where(F.col("similarity") >= settings.threshold),
        crowded=placed.where(F.col("place") > settings.max_bucket).select("text", "split").distinct(),
    )


def repeated_samples(members: DataFrame, settings: Duplicates, unit: str) -> tuple[DataFrame, Repetitions]:
    """Finds the train samples of a dataset that repeat another one.

    Args:
        members: as for ``distinct_texts``.
        settings: which duplicates are searched for, and which are dropped.
        unit: user_id or person_id.

    Returns:
        The samples to drop from train (sample_id, reason: ``contaminated``, ``exact_duplicate`` or ``near_duplicate``,
        the first that applies), and the counts, which do not depend on what is dropped. The sample with the smallest id
        is kept. A near duplicate is dropped if any near train text has a smaller first id, even one that is dropped as
        near itself, so no two near texts are kept.
    """
    texts = distinct_texts(members, unit).localCheckpoint()
    train = texts.where(F.col("split") == TRAIN).select("text", "first_id", "samples")
    same = texts.where(F.col("split") != TRAIN).join(train.select("text"), "text").select("text", "split")
    found = None if settings.near == "ignore" else near_pairs(texts, settings)
    pairs = train.sparkSession.createDataFrame([], PAIR_COLUMNS) if found is None else found.pairs.localCheckpoint()
    near_held_out = pairs.where(F.col("split") != TRAIN).select(F.col("other_text").alias("text"), "split").distinct()
    near_held_out = near_held_out.join(same, ["text", "split"], "left_anti")
    within = pairs.where(F.col("split") == TRAIN).select("text", "other_text")
    evaluated = _evaluated(train, same.unionByName(near_held_out), within, settings).localCheckpoint()
    counts = evaluated.agg(F.sum(F.col("samples") - 1), F.sum(F.when(F.col("near"), F.col("samples")))).first()
    repetitions = Repetitions(
        exact=int(counts[0] or 0) if counts else 0,
        near=int(counts[1] or 0) if counts else 0,
        held_out_exact=_samples_by_split(train, same),
        held_out_near=_samples_by_split(train, near_held_out),
        crowded_texts=found.crowded.count() if found else 0,
    )
    return _dropped(members, evaluated, settings), repetitions


def _evaluated(train: DataFrame, held_out: DataFrame, within: DataFrame, settings: Duplicates) -> DataFrame:
    """Train texts with their flags; a text that is dropped as contaminated makes no other text a near duplicate."""
    contaminated = held_out.select("text", F.lit(True).alias("contaminated")).distinct()
    if settings.contamination == "drop":
        within = within.join(contaminated.select("text"), "text", "left_anti")
    near = within.select(F.col("other_text").alias("text"), F.lit(True).alias("near")).distinct()
    flagged = train.join(contaminated, "text", "left").join(near, "text", "left")
    return flagged.select("text", "first_id", "samples", *(F.coalesce(c, F.lit(False)).alias(c) for c in _FLAGS))


_FLAGS = ("contaminated", "near")


def _dropped(members: DataFrame, evaluated: DataFrame, settings: Duplicates) -> DataFrame:
    repeats = F.col("sample_id") != F.col("first_id")
    rules = (
        (settings.contamination, F.col("contaminated"), "contaminated"),
        (settings.exact, repeats, "exact_duplicate"),
        (settings.near, F.col("near"), "near_duplicate"),
    )
    reasons = [F.when(holds, F.lit(reason)) for handling, holds, reason in rules if handling == "drop"]
    reason = F.coalesce(F.lit(None).cast("string"), *reasons)
    train = members.where(F.col("split") == TRAIN).select("sample_id", _text().alias("text"))
    fated = train.join(evaluated, "text").select("sample_id", reason.alias("reason"))
    return fated.where(F.col("reason").isNotNull())


def _samples_by_split(train: DataFrame, held_out: DataFrame) -> dict[str, int]:
    rows = held_out.join(train, "text").groupBy("split").agg(F.sum("samples").alias("samples")).collect()
    return {row["split"]: int(row["samples"]) for row in sorted(rows, key=lambda row: str(row["split"]))}


def _sketches(texts: DataFrame, settings: Duplicates) -> DataFrame:
    needed = texts.select("text", "split", "completion", "first_id", "one_unit", "input_ids")
    sketcher = Sketcher(shingle_tokens=settings.shingle_tokens, cut=Bands.of(settings.threshold))
    added = "shingles array<bigint>, buckets array<bigint>"
    schema = f"text string, split string, completion string, first_id string, one_unit string, {added}"
    # Read by the buckets and by both sides of the comparison; without the checkpoint each would recompute the sketches.
    return needed.mapInArrow(sketcher, schema).localCheckpoint()


def _met(anchors: DataFrame, banded: DataFrame, threshold: float) -> DataFrame:
    """Distinct pairs that share a bucket and can be near: (text, split) of the anchor, and other_text of train.

    Every text is paired only with the first texts of its bucket, so a crowded bucket of n texts costs at most
    n * ``max_bucket`` pairs instead of n^2.
    """
    other = banded.where(F.col("split") == TRAIN).select(
        *_BUCKET,
        F.col("text").alias("other_text"),
        F.col("first_id").alias("other_id"),
        F.col("one_unit").alias("other_unit"),
        F.col("size").alias("other_size"),
    )
    later = (F.col("split") != TRAIN) | (F.col("first_id") < F.col("other_id"))
    same_unit = F.coalesce(F.col("one_unit") == F.col("other_unit"), F.lit(False))
    smaller, larger = F.least("size", "other_size"), F.greatest("size", "other_size")
    possible = (F.col("text") != F.col("other_text")) & later & ~same_unit & (smaller >= larger * F.lit(threshold))
    return anchors.join(other, _BUCKET).where(possible).select("text", "split", "other_text").distinct()


def _similarity(left: str, right: str) -> Column:
    """Jaccard similarity of two arrays of distinct values."""
    common = F.size(F.array_intersect(left, right))
    return common / (F.size(left) + F.size(right) - common)


def _text() -> Column:
    return F.concat_ws("|", "text_hash", "completion")
