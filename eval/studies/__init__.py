"""The studies behind the documents' figures; `python -m eval study` lists them, see `eval.studies.command`."""
