"""Backbones: pretrained models and the sites where prompts enter them."""

import logging

# Where torchao is installed transformers imports it, which warns of each of its kernels that is
# for another machine. Nothing here uses those.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
