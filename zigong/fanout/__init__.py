"""The only package that uses Ray: clusters, shards that actors compute and stage, and Ray Train."""
