"""Study of selection (the paper's Figure 2): training on parts of the pool that different rules choose."""
