"""What is measured. The folders are modules of the evaluate library; `eval.publish_metric` makes them repositories."""
