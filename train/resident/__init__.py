"""Training of the small model with all photographs on the device: one command, from photographs to weights."""
