"""How the page looks: theme, style sheet, texts."""

import gradio as gr

THEME = gr.themes.Soft(
    primary_hue="indigo",
    secondary_hue="amber",
    neutral_hue="slate",
    # The visitor's own fonts: gradio's would be fetched from another server.
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    block_title_background_fill="transparent",
    block_title_background_fill_dark="transparent",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_title_padding="0",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_hover_dark="*primary_500",
)

CSS = """
.gradio-container { width: 100% !important; max-width: 1240px !important; margin: 0 auto !important; }
.hero h1 { margin: 0.2em 0 0; font-size: 1.9rem; letter-spacing: -0.02em; }
.hero p { margin: 0.2em 0 0.4em; opacity: 0.8; }
.chips { display: flex !important; flex-wrap: wrap !important; gap: 6px !important; }
.chips button { flex: 0 0 auto !important; width: auto !important; min-width: 0 !important; border-radius: 999px; }
.gradio-container main { width: 100% !important; }
#comparison .grid-wrap, #strip .grid-wrap { max-height: none !important; }
.hint::before {
  content: ""; display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.3em 0 0.6em;
  border-radius: 50%; border: 1px solid; background: var(--color);
}
.seen { align-items: center !important; }
.seen .prose { flex: 0 0 auto !important; width: auto !important; }
.note { opacity: 0.75; font-size: 0.9em; }
@media (max-width: 720px) {
  /* One column, the result before the examples. */
  .inputs { display: contents !important; }
  .inputs > * { flex: 0 0 100% !important; }
  .outputs { order: 1; flex: 0 0 100% !important; }
  .examples { order: 2; }
  .gradio-container { padding: 8px !important; }
  .hero h1 { font-size: 1.5rem; }
}
"""

HERO = """# Cold Colorizer
Color a black-and-white photograph. Say what is in it and in which colors, or leave that to the model."""

NOTE = "The colors are a model's guess, not a record. Downloads say “AI-colorized” in their metadata."

SUGGESTIONS = ("red dress", "blue sky", "green meadow", "autumn leaves", "golden sunset", "red brick house")

HOW = """### From gray to color in a few steps
The picture is squeezed into a small *latent* image. A network, told your prompt, predicts the colors of it; a step
leads part of the way there, and the network looks again. This is
[cold diffusion](https://arxiv.org/abs/2208.09392): what is undone is desaturation, not noise, as in
[Diffusing Colors](https://arxiv.org/abs/2312.04145). Of the result only the colors are used, spread along the edges of
your photograph and merged with its own brightness at its own size. No detail goes through the network."""

CONTROLS = """| control | what it does |
|---|---|
| Prompt | what is in the picture and its colors, in a few words |
| Negative prompt | what to steer away from; needs a guidance scale above 1 |
| Steps | how often the network looks again; more are slower, 0 is a first guess |
| Guidance scale | how strongly the prompt acts; 1 is off and twice as fast |
| Color scale | intensity of the colors; it acts at once, on what is there already |
| Color hints | places on the photograph and the colors that they shall have |
| Seed | another number gives other colors, the same one the same |"""
