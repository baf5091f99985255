"""Where tokens per second come from: generating with a key-value cache, batching, drafting, and the machine's roofline.

Generating: `generate`, `stream`, `probabilities`, `perplexity`. Many requests: `Request`, `serve_padded`,
`serve_continuously`. Drafting: `accept`, `speculate`. Limits: `memory_bandwidth`, `decode_work`, `Roofline`.
Models to do it with: `train_code_gpt`, `int8_weights`. The modules are imported when one of their names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.decoding.batching import Request, Served, serve_continuously, serve_padded
    from helpers.decoding.code_model import CodeModel, code_tokens, train_code_gpt
    from helpers.decoding.generation import generate, perplexity, probabilities, stream
    from helpers.decoding.int8 import Int8Linear, int8_weights, weight_bytes
    from helpers.decoding.roofline import Roofline, Work, decode_work, memory_bandwidth
    from helpers.decoding.speculation import Speculation, accept, speculate

__getattr__, __dir__ = names_of(
    __name__,
    {
        "batching": ("Request", "Served", "serve_continuously", "serve_padded"),
        "code_model": ("CodeModel", "code_tokens", "train_code_gpt"),
        "generation": ("generate", "perplexity", "probabilities", "stream"),
        "int8": ("Int8Linear", "int8_weights", "weight_bytes"),
        "roofline": ("Roofline", "Work", "decode_work", "memory_bandwidth"),
        "speculation": ("Speculation", "accept", "speculate"),
    },
)

__all__ = [
    "CodeModel",
    "Int8Linear",
    "Request",
    "Roofline",
    "Served",
    "Speculation",
    "Work",
    "accept",
    "code_tokens",
    "decode_work",
    "generate",
    "int8_weights",
    "memory_bandwidth",
    "perplexity",
    "probabilities",
    "serve_continuously",
    "serve_padded",
    "speculate",
    "stream",
    "train_code_gpt",
    "weight_bytes",
]
