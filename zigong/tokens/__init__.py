"""Sample columns, batches and losses, and token trees of users with their attention masks (torch only)."""
