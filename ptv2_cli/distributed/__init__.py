"""One run on several devices: a process for each, which torchrun or `--devices` starts."""
