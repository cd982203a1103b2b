"""The demo's page, one file a tab; `app.py` serves it. Nothing else in this project imports gradio."""
