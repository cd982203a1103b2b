"""The parts of the demo's page; `app.py` puts them together. Nothing else in the library imports gradio."""
