"""What commands print: tables, progress and summaries."""
