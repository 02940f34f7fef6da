"""The HTML report: one file that opens offline, its charts drawn as SVG when it is written."""
