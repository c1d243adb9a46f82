"""A plug-in of ptv2: one module for each thing that it adds."""
