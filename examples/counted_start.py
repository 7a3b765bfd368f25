"""What counting alone gives an encoder before any training: a tokenizer, and embeddings from co-occurrence.

`pretrain_encoder.py` starts from both. The tokenizer is laid out as XLM-R's. The embeddings are a truncated SVD of the
positive pointwise mutual information of pieces within a window (Levy, Goldberg and Dagan 2015, section 3), which on
small corpora knows more about words than any masked LM that a few minutes can train.
"""

import math
from collections import Counter

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

# XLM-R's own tokens at XLM-R's own ids (0 to 3; the mask stands last).
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]
MASK_TOKEN = "<mask>"


def rare_characters(sentences: list[str], coverage: float) -> set[str]:
    """Return the rarest characters, those outside the share `coverage` of all occurrences (they become `<unk>`)."""
    counts = Counter(character for sentence in sentences for character in sentence)
    room, rare = (1 - coverage) * counts.total(), set()
    for character, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        room -= count
        if room < 0:
            break
        rare.add(character)
    return rare


def text_pipeline(model: models.Model) -> Tokenizer:
    """Return a tokenizer around `model` with XLM-R's conventions: NFKC, single spaces, `▁` for a space.

    The zero-width space, which marks word ends in Khmer and Burmese, becomes a space, as in XLM-R's own normaliser.
    Punctuation always stands alone, so that no piece glues it to a word.
    """
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\u200b", " "), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(behavior="isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def unigram_pieces(sentences: list[str], size: int, longest: int, rounds: int = 3) -> list[tuple[str, float]]:
    """Return `size` pieces of at most `longest` characters (fewer if the text holds fewer) with log-probabilities.

    Byte-pair merges propose a quarter more pieces than needed; then, round by round, the text is split in the likeliest
    way and the pieces are counted anew; the last round keeps the most frequent ones and every character. Unlike
    `tokenizers`' own unigram trainer, whose result differs from run to run, this is reproducible.

    Raises:
        ValueError: the characters of the text alone are more than `size`.
    """
    proposer = text_pipeline(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=size * 5 // 4, max_token_length=longest, show_progress=False)
    proposer.train_from_iterator(sentences, trainer)
    pieces, splitter = sorted(proposer.get_vocab()), proposer
    characters = sum(len(piece) == 1 for piece in pieces)
    if characters > size:
        raise ValueError(
            f"a vocabulary of {size} pieces has no room for the text's {characters} characters: "
            "raise vocab_size, or lower character_coverage"
        )
    for step in range(1, rounds + 1):
        counts = Counter(token for encoding in splitter.encode_batch(sentences) for token in encoding.tokens)
        pieces.sort(key=lambda piece: (len(piece) > 1, -counts[piece], piece))
        pieces = pieces[:size] if step == rounds else pieces
        total = math.log(counts.total())
        scored = [(piece, math.log(counts[piece] + 0.5) - total) for piece in pieces]
        splitter = text_pipeline(models.Unigram([*scored, ("<unk>", 0.0)], unk_id=len(scored)))
    return sorted(scored, key=lambda item: (-item[1], item[0]))


def train_tokenizer(
    sentences: list[str], vocab_size: int, max_piece_length: int, character_coverage: float, max_length: int
) -> PreTrainedTokenizerFast:
    """Train a unigram tokenizer laid out as XLM-R's: `<s> <pad> </s> <unk>` first, `<mask>` last.

    Raises:
        ValueError: the vocabulary has no room for the characters of the text.
    """
    rare = str.maketrans(dict.fromkeys(rare_characters(sentences, character_coverage), " "))
    scored = unigram_pieces(
        [sentence.translate(rare) for sentence in sentences],
        size=vocab_size - len(SPECIAL_TOKENS) - 1,
        longest=max_piece_length,
    )
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS] + scored
    tokenizer = text_pipeline(models.Unigram(vocabulary, unk_id=SPECIAL_TOKENS.index("<unk>")))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=MASK_TOKEN,
        model_max_length=max_length,
    )


def cooccurrence_counts(token_ids: list[list[int]], vocab_size: int, window: int) -> Tensor:
    """Return how often two pieces stand at most `window` apart in a sentence: a symmetric sparse (V, V) tensor."""
    flat = torch.tensor([token for ids in token_ids for token in ids])  # (N,): all pieces of the corpus
    lengths = torch.tensor([len(ids) for ids in token_ids])
    sentence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)  # (N,)
    cells = torch.zeros(0, dtype=torch.long)
    counts = torch.zeros(0, dtype=torch.long)
    for distance in range(1, window + 1):
        together = sentence[:-distance] == sentence[distance:]
        left, right = flat[:-distance][together], flat[distance:][together]
        found, times = torch.cat([left * vocab_size + right, right * vocab_size + left]).unique(return_counts=True)
        cells, where = torch.cat([cells, found]).unique(return_inverse=True)
        counts = torch.zeros(len(cells), dtype=torch.long).index_add_(0, where, torch.cat([counts, times]))
    indices = torch.stack([cells // vocab_size, cells % vocab_size])
    return torch.sparse_coo_tensor(indices, counts.float(), (vocab_size, vocab_size), check_invariants=False).coalesce()


def cooccurrence_embeddings(token_ids: list[list[int]], vocab_size: int, width: int, window: int) -> Tensor:
    """Return embeddings (V, width) of unit variance from the pieces' company; pieces that never occur get small noise.

    Contexts are smoothed by the power 0.75 and singular values enter by half (Levy, Goldberg and Dagan 2015, 3.2, 3.3).
    Random numbers come from torch's global generator.

    Args:
        token_ids: the pieces of each sentence, without special tokens.
        vocab_size: V.
        width: of an embedding.
        window: the largest distance, in pieces, at which two pieces count as company.
    """
    counts = cooccurrence_counts(token_ids, vocab_size, window)
    rows, columns = counts.indices()
    occurrences = torch.zeros(vocab_size).index_add_(0, rows, counts.values())  # (V,)
    smoothed = occurrences**0.75
    context = smoothed / smoothed.sum()
    information = (counts.values() / (occurrences[rows] * context[columns])).log().clamp(min=0)
    matrix = torch.sparse_coo_tensor(counts.indices(), information, counts.shape, check_invariants=False).coalesce()
    rank = min(width, vocab_size)
    left, singular, _ = torch.svd_lowrank(matrix, rank, niter=4)
    vectors = torch.zeros(vocab_size, width)
    vectors[:, :rank] = left * singular.sqrt()
    vectors /= vectors[occurrences > 0].std().clamp(min=1e-6)
    vectors[occurrences == 0] = 0.1 * torch.randn(int((occurrences == 0).sum()), width)
    return vectors
