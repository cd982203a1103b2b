"""Metrics as modules of the evaluate library; `python -m eval.publish_metric` makes them repositories of their own."""
