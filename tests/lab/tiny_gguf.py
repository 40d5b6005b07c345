#!/usr/bin/env python3
"""Writes a GGUF model with random weights that a real Ollama loads, runs and embeds with.

    tiny_gguf.py OUT.gguf [--seed N] [--mb SIZE]
    tiny_gguf.py OUT.gguf --say "The sky is blue because air scatters short waves most."

Load, prefill, decode, embeddings, /api/ps and the blob store are all real; the words are
nonsense without an end, or, with --say, that sentence word by word and then the end, whatever the prompt:
one-hot embeddings, attention and feed-forward at zero, and an output matrix that maps each
word to the next make a chain that a real runner walks. Words must be distinct (case counts).
--mb grows the feed-forward weights until the file is about SIZE MB (0.5 MB without it), for
transfer and load-time tests. Needs the PyPI packages gguf and numpy.
"""

import argparse

import gguf
import numpy as np

VOCAB, LAYERS, HEADS, CONTEXT = 300, 2, 4, 4096


def vocabulary(words: list[str]) -> tuple[list[bytes], list[gguf.TokenType]]:
    """Control tokens, all 256 bytes (so any prompt tokenises), then the words, then made-up ones."""
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{i:02X}>".encode() for i in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256
    tokens += [f"▁{word}".encode() for word in words]
    for i in range(VOCAB - len(tokens)):
        tokens.append(f"▁{chr(97 + i % 26)}{chr(97 + i * 7 % 26)}{i // 26}".encode())
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))
    return tokens, kinds


FIRST_WORD, END = 259, 2


def chain(size: int, words: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and output weights whose greedy and sampled walk alike is first word … last word, end."""
    follows = np.full(size, FIRST_WORD)  # anything else starts the sentence
    follows[FIRST_WORD : FIRST_WORD + words] = np.arange(FIRST_WORD + 1, FIRST_WORD + words + 1)
    follows[FIRST_WORD + words - 1] = END
    embedding, output = np.zeros((2, size, width), np.float32)
    embedding[np.arange(size), np.arange(size)] = 1
    output[follows, np.arange(size)] = 4  # times sqrt(width) after the norm: beyond any sampling
    return embedding, output


def endless(embedding: np.ndarray, output: np.ndarray) -> None:
    """Has the first dimension, which no layer writes to, say against the end: with random weights it would come after any word."""
    embedding[:, 0] = 1
    output[END] = 0
    output[END, 0] = -100


def write(path: str, seed: int, megabytes: float, say: str) -> None:
    words = say.split()
    if len(set(words)) < len(words):
        raise SystemExit("the words of --say must be distinct")
    tokens, kinds = vocabulary(words)
    size = len(tokens)
    width = -(-size // 64) * 64 if words else 64 if megabytes <= 1 else 256
    hidden = 128 if megabytes <= 1 else int(megabytes * 1e6 / (LAYERS * 3 * width * 4)) // 32 * 32
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0 if words else 0.05)

    def back(*shape: int) -> np.ndarray:
        into = weights(*shape)
        into[0] = 0
        return into

    w = gguf.GGUFWriter(path, "llama")
    w.add_name(f"tiny-{seed}")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(width)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(hidden)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(width // HEADS)
    w.add_vocab_size(size)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * size)
    w.add_token_types(kinds)
    w.add_bos_token_id(1)
    w.add_eos_token_id(END)
    w.add_unk_token_id(0)
    embedding, output = chain(size, len(words), width) if words else (weights(size, width), weights(size, width))
    if not words:
        endless(embedding, output)
    w.add_tensor("token_embd.weight", embedding)
    w.add_tensor("output_norm.weight", np.ones(width, np.float32))
    w.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        w.add_tensor(name + "attn_norm.weight", np.ones(width, np.float32))
        w.add_tensor(name + "ffn_norm.weight", np.ones(width, np.float32))
        for part in ("attn_q", "attn_k", "attn_v"):
            w.add_tensor(f"{name}{part}.weight", weights(width, width))
        w.add_tensor(f"{name}attn_output.weight", back(width, width))
        w.add_tensor(name + "ffn_gate.weight", weights(hidden, width))
        w.add_tensor(name + "ffn_up.weight", weights(hidden, width))
        w.add_tensor(name + "ffn_down.weight", back(width, hidden))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mb", type=float, default=0.5)
    parser.add_argument("--say", default="")
    args = parser.parse_args()
    write(args.out, args.seed, args.mb, args.say)
