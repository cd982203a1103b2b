"""The tables of docs/embedded-model.md: what was measured before a checkpoint was chosen."""

from collections.abc import Callable, Sequence

from ..columns import show_metric
from ..metrics.color_words import HUE_WORDS


def render_table(results: Sequence[dict]) -> str:
    """The Markdown tables of results, sorted by set and model; a metric that is not there is "n/a".

    Raises:
        ValueError: there are none.
    """
    if not results:
        raise ValueError("no results to show")
    results = sorted(results, key=lambda result: (result["data"]["name"], result["model"]))
    compared = [result for result in results if "psnr" in result["metrics"]]
    prompted = [result for result in results if "color_word_hit_rate" in result["metrics"]]
    parts = []
    if compared:
        columns = {
            "FD-Lite2": lambda m: show_metric(m["fd_lite2"], ".2f"),
            "relative": lambda m: show_metric({"value": m["fd_lite2"]["relative"]}, ".4f"),
            "KD-Lite2": lambda m: show_metric(m["kd_lite2"], ".4f"),
            "PSNR": lambda m: show_metric(m["psnr"], ".2f"),
            "CIEDE2000": lambda m: show_metric(m["ciede2000"], ".2f"),
            "chroma error": lambda m: show_metric(m["chroma_error"], ".2f"),
            "colorfulness": lambda m: show_metric(m["colorfulness"], ".1f"),
            "of the original's": lambda m: show_metric(m["colorfulness_ratio"], ".0%"),
            "seconds": lambda m: show_metric(m.get("seconds_8_steps", {"value": None}), ".2f"),
        }
        parts.append(_markdown(compared, columns))
    if prompted:

        def rate_of(word: str) -> Callable[[dict], str]:
            return lambda m: show_metric(m["color_word_hit_rate"]["by_word"][word], ".0%")

        columns = {
            "pairs": lambda m: str(m["color_word_hit_rate"]["n"]),
            "hit rate": lambda m: show_metric(m["color_word_hit_rate"], ".1%"),
            "without the word": lambda m: show_metric({"value": m["color_word_hit_rate"]["unprompted"]}, ".1%"),
        } | {word: rate_of(word) for word in HUE_WORDS}
        parts.append(_markdown(prompted, columns))
    return "\n\n".join(parts)


def _markdown(results: Sequence[dict], columns: dict[str, Callable[[dict], str]]) -> str:
    lines = [f"| photographs | n | model | {' | '.join(columns)} |", "|" + "---|" * (3 + len(columns))]
    for result in results:
        cells = [result["data"]["name"], str(result["data"]["n"]), result["model"]]
        lines.append(f"| {' | '.join([*cells, *(cell(result['metrics']) for cell in columns.values())])} |")
    return "\n".join(lines)
