"""What `python -m train.build_dataset` does: photographs measured, captioned, written as rows, described."""
