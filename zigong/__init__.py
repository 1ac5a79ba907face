"""ZiGong: from a consumer lender's behaviour data to a governed credit language model."""

__version__ = "0.1.0"
