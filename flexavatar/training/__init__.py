"""Training flex-s: records of what is known of a head, losses, and the trainer."""
