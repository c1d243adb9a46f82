"""The files of a backbone: where they are, which of them count, and whether their code may run."""
