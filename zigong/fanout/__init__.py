"""The only room that opens Ray: clusters, shards that actors compute and stage, and Ray Train."""
