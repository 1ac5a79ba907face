"""The data contracts of all tables and raw sources. Nothing here imports the zigong package."""
