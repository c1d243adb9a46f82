"""A report as one HTML file: tables, plots, and a view of any one or two runs."""
