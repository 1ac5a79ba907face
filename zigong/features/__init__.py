"""The features of a client or loan as of T: their definition, their table, and the frame that models read."""
