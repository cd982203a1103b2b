"""How the page's events queue: options that all tabs share."""

MODEL = {"concurrency_id": "model", "concurrency_limit": 1}  # sampling: one at a time
RENDER = {"concurrency_id": "render", "concurrency_limit": 1, "api_visibility": "private"}
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
