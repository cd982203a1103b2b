"""Measurements behind the pages in docs/: experiments, comparisons, speed and soak tests, and what draws the pages."""
