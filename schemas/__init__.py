"""The data contracts: what every table and every raw source promises. Nothing here imports the library."""
