"""Tokens of texts by any tokenizer, and what prompts cost: the formulas against what torch counts and caches keep."""

import base64
import json
from itertools import pairwise

import pytest
import tiny
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig, PreTrainedModel, XLMRobertaConfig

from llink.baselines.direct import RawTextProcessor, like
from llink.cli import main
from llink.configuration_llink import SLOT_EXPANDERS
from llink.data.errors import DataError
from llink.evaluation.costs import (
    StackCost,
    bridge_flops,
    matrix_parameters,
    prompt_costs,
    reuses_to_pay_off,
    shape_model,
    stack_cost,
)
from llink.evaluation.tokens import (
    example_strips,
    load_tokenizer,
    prompt_lengths,
    prompt_tokens,
    raw_message,
    token_pieces,
    tokenization,
)
from llink.modeling_llink.errors import ForeignTextError
from llink.modeling_llink.pieces import cut_text

ENGLISH = ["the cat sat", "a dog runs", "we eat rice at noon"]
KHMER = ["ក្មេងទៅសាលា", "ឆ្កែ", "បាយ ២៧"]
#: A few merges over bytes: th, the, Khmer's first byte pair, its first two letters' beginning.
MERGES = [b"th", b"the", b"\xe1\x9e", b"\xe1\x9e\x80", b" c"]


@pytest.fixture(scope="module")
def tiktoken_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiktoken") / "tokenizer.model"
    entries = [bytes([value]) for value in range(256)] + MERGES
    path.write_bytes(b"\n".join(base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(entries)))
    return path


@pytest.fixture(scope="module")
def tokenizer(tiktoken_file):
    return load_tokenizer(str(tiktoken_file))


# ------------------------------------------------------------------ tokenizers


def byte_pairs(piece: bytes) -> list[bytes]:
    """What a tiktoken file means: merge the pair of lowest rank until none is left."""
    ranks = {token: rank for rank, token in enumerate(MERGES)}
    parts = [bytes([value]) for value in piece]
    while True:
        pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
        if not pairs:
            return parts
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@given(st.text(alphabet="thec កខ្", min_size=1, max_size=20))
@settings(max_examples=40)
def test_a_tiktoken_file_is_read_as_it_is_meant(tokenizer, text):
    (ids, _), *_ = token_pieces(tokenizer, [text])
    assert tokenizer.decode(ids) == text
    word = text.replace(" ", "")
    if word.isascii() and word:  # one piece of the pattern
        (ids, _), *_ = token_pieces(tokenizer, [word])
        assert [tokenizer.decode([i]).encode() for i in ids] == byte_pairs(word.encode())


def test_llama3s_pattern_splits_as_llama3_does(tokenizer):
    backend = tokenizer.backend_tokenizer
    cases = {
        "I'LL go": ["I", "'LL", " go"],
        "12345": ["123", "45"],
        "a  b": ["a", " ", " b"],
        "x!!\n\ny": ["x", "!!\n\n", "y"],
    }
    for text, wanted in cases.items():
        pieces = [text[start:stop] for _, (start, stop) in backend.pre_tokenizer.pre_tokenize_str(text)]
        assert pieces == wanted


def test_tokenizers_load_from_folder_file_and_json(base_folder, tiktoken_file, tmp_path):
    folder = base_folder("decoder", "llama")
    wanted = token_pieces(load_tokenizer(folder), ENGLISH + KHMER)
    assert token_pieces(load_tokenizer(f"{folder}/tokenizer.json"), ENGLISH + KHMER) == wanted
    alone = load_tokenizer(str(tiktoken_file.parent))
    assert token_pieces(alone, KHMER) == token_pieces(load_tokenizer(str(tiktoken_file)), KHMER)
    encoder = base_folder("encoder", "xlm-roberta")
    assert load_tokenizer(f"{encoder}/tokenizer.json").unk_token == load_tokenizer(encoder).unk_token == "<unk>"


def test_what_is_no_tokenizer_is_named(base_folder, tmp_path):
    (tmp_path / "words.model").write_bytes(b"not base64\nat all\n")
    (tmp_path / "piece.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00")
    (tmp_path / "broken.json").write_text('{"model": 1')
    config = base_folder("decoder", "llama") + "/config.json"
    files = [str(tmp_path / name) for name in ("words.model", "piece.model", "broken.json", "none")]
    for name in [*files, str(tmp_path), config]:
        with pytest.raises(DataError, match=r"no tokenizer.*tiktoken"):
            load_tokenizer(name)


# ------------------------------------------------------------------ tokens of texts


def test_fragments_are_further_pieces_of_a_character(tokenizer):
    pieces = dict(zip(["the", "កខ", "é"], token_pieces(tokenizer, ["the", "កខ", "é"]), strict=True))
    assert [flags for _, flags in pieces.values()] == [[False], [False, False, True], [False, True]]


def test_the_mark_of_a_words_beginning_is_no_character():
    vocab = [("<unk>", 0.0), ("▁", -1.0), ("ក", -1.0), ("ខ", -1.0)]
    backend = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    fast = tiny.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    (ids, flags), *_ = token_pieces(fast, ["កខ"])
    assert fast.convert_ids_to_tokens(ids) == ["▁", "ក", "ខ"], "vacuous unless the mark is a token of its own"
    assert not any(flags)


def test_a_tokenizer_of_characters_and_one_of_bytes():
    texts = {"en": ENGLISH, "km": KHMER}
    characters = tokenization(tiny.encoder_tokenizer("xlm-roberta"), texts, "en")
    assert characters["en"]["tokens_per_char"] == characters["km"]["tokens_per_char"] == 1.0
    assert characters["km"]["premium"] == sum(map(len, KHMER)) / sum(map(len, ENGLISH))
    found = tokenization(tiny.decoder_tokenizer("llama"), texts, "en")
    assert found["km"]["tokens_per_byte"] == 1.0, "vacuous unless Khmer was never merged"
    letters, spaces = sum(map(len, KHMER)) - 1, 1
    assert found["km"]["fragments"] == pytest.approx(2 * letters / (3 * letters + spaces))
    assert found["en"]["premium"] == 1.0 < found["km"]["premium"]
    assert found["en"]["fragments"] == 0.0


def test_unknown_tokens_are_reported():
    found = tokenization(tiny.encoder_tokenizer("bert"), {"en": ["abc"], "ja": ["日本語x"]}, "en")
    assert (found["en"]["unknown"], found["ja"]["unknown"]) == (0.0, 0.75)


@pytest.mark.parametrize(
    ("texts", "english", "words"),
    [
        ({"km": KHMER}, "en", "'en' are not among km"),
        ({"en": ENGLISH, "km": KHMER[:2]}, "en", "'km': 2"),
        ({"en": []}, "en", "'en': 0"),
        ({"en": ["a", " "]}, "en", "Sentence 1 of 'en' is blank"),
    ],
)
def test_texts_that_cannot_be_compared(texts, english, words):
    with pytest.raises(DataError, match=words):
        tokenization(tiny.decoder_tokenizer("llama"), texts, english)


def test_the_example_is_a_typical_sentence():
    texts = {"en": ["a b", "the longest one of all", "a dog"], "km": ["ក", "ខខខ", "គគ"]}
    found = example_strips({"bytes": tiny.decoder_tokenizer("llama")}, texts, "en")
    assert found["texts"] == {"en": "a dog", "km": "គគ"}
    assert found["strips"]["bytes"]["km"] == "011011"


def test_prompts_are_counted_as_they_are_rendered(model):
    processor = model.processor
    lengths = prompt_lengths(processor, KHMER, "Say it.")
    raw, slotted = lengths["raw"], lengths["slotted"]
    batch = processor(["Say it."], KHMER, padding_side="right")
    assert batch["attention_mask"].sum(dim=1).tolist() == slotted
    assert raw[1] == len(processor.render([raw_message("Say it.", KHMER[1])])[0])
    found = prompt_tokens(processor, KHMER, "Say it.")
    means = {"raw": sum(raw) / 3, "slotted": slotted[0], "raw_uncut": sum(raw) / 3}
    assert found == {**means, "ratio": sum(raw) / 3 / slotted[0], "n": 3}
    with pytest.raises(DataError, match="no passages"):
        prompt_tokens(processor, [])
    with pytest.raises(ForeignTextError, match="row 1"):
        prompt_tokens(processor, [KHMER[0], " "])


def test_raw_prompts_are_counted_on_what_slots_and_baselines_hold(make_model):
    processor = make_model(long_passages="cut").processor
    short, long = f" {KHMER[0]} ", "ក្មេងទៅ " * 80
    lengths = prompt_lengths(processor, [short, long], "Say it.")
    cut = cut_text(long, processor.max_foreign_chars).rstrip()
    assert len(cut) <= processor.max_foreign_chars < len(long.strip()), "vacuous unless the text is cut"
    baseline = like(RawTextProcessor, processor)
    read = [len(baseline.render([baseline.user_message("Say it.", [text])])[0]) for text in (short, long)]
    assert lengths["raw"] == read
    whole = [len(processor.render([raw_message("Say it.", text.strip())])[0]) for text in (short, long)]
    assert lengths["raw_uncut"] == whole
    assert whole[0] == read[0]
    assert whole[1] > 2 * read[1]
    found = prompt_tokens(processor, [short, long], "Say it.")
    assert found["ratio"] == pytest.approx(found["raw"] / found["slotted"])
    assert found["raw_uncut"] == sum(whole) / 2


# ------------------------------------------------------------------ costs


def counted(module, **inputs) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_a_decoders_work_and_cache_are_what_torch_counts(shared_model, family):
    decoder = shared_model(decoder=family).decoder
    cost = stack_cost(decoder, causal=True)
    length = 40
    ids = torch.randint(200, (1, length))
    attention = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")  # whose matrix products torch sees; it computes both triangles
    try:
        found = counted(decoder, input_ids=ids, logits_to_keep=1)
        assert found - counted(decoder.base_model, input_ids=ids) == 2 * cost.output == cost.flops(0)
        with torch.no_grad():
            cache = decoder(input_ids=ids, use_cache=True).past_key_values
    finally:
        decoder.set_attn_implementation(attention)
    unseen = cost.attention * (length * length - length * (length + 1) // 2)
    assert cost.adapters > 0, "vacuous unless LoRA is there"
    assert found == pytest.approx(cost.flops(length, adapted=True) + unseen, rel=0.01)
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kept == cost.cache_bytes * length


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_an_encoders_work_is_what_torch_counts(shared_model, family):
    encoder = shared_model(encoder=family).encoder
    encoder.set_attn_implementation("eager")
    ids = torch.randint(5, 30, (1, 24))
    cost = stack_cost(encoder, causal=False)
    assert counted(encoder, input_ids=ids) == pytest.approx(cost.flops(24), rel=0.01)
    assert cost.cache_bytes == cost.output == cost.adapters == 0


def test_a_pooler_is_passed_once_a_text(shared_model):
    config = shared_model(encoder="bert").encoder.config
    encoder = AutoModel.from_config(config, attn_implementation="eager")
    without, cost = (stack_cost(model, causal=False) for model in (shared_model(encoder="bert").encoder, encoder))
    assert encoder.pooler is not None, "vacuous unless there is one"
    assert cost.output == config.hidden_size**2
    assert cost.flops_per_token == without.flops_per_token
    assert counted(encoder, input_ids=torch.randint(5, 30, (1, 24))) == pytest.approx(cost.flops(24), rel=0.001)


@pytest.fixture(scope="module")
def paper_shapes(tmp_path_factory):
    """Folders with nothing but the configurations of XLM-R base and Llama-3.2-1B."""
    folder = tmp_path_factory.mktemp("shapes")
    XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, pad_token_id=1).save_pretrained(folder / "xlmr")
    LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
        dtype="bfloat16",
    ).save_pretrained(folder / "llama")
    return folder


def test_the_papers_bases_cost_what_is_published_of_them(paper_shapes):
    model = shape_model(str(paper_shapes / "xlmr"), str(paper_shapes / "llama"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    decoder, encoder = stack_cost(model.decoder, True), stack_cost(model.encoder, False)
    assert decoder.flops_per_token == pytest.approx(1.95e9, rel=0.003)
    assert decoder.cache_bytes == 32 * 1024
    assert 48 * encoder.flops_per_token == pytest.approx(8.2e9, rel=0.01)  # 48 tokens of XLM-R: a Khmer sentence
    assert 234 * decoder.flops_per_token == pytest.approx(456e9, rel=0.003)
    assert 8 * decoder.flops_per_token + 48 * encoder.flops_per_token == pytest.approx(24e9, rel=0.02)
    assert matrix_parameters(model.projector)[0] == 768 * 3072 + 3072 * 2048


def test_only_the_chosen_experts_count():
    shape = dict(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    with torch.device("meta"):
        sizes = [
            stack_cost(
                AutoModelForCausalLM.from_config(
                    AutoConfig.for_model("mixtral", **shape, num_local_experts=experts, num_experts_per_tok=2)
                ),
                True,
            ).weights
            for experts in (2, 8)
        ]
    router = 2 * 32 * (8 - 2)
    assert sizes[1] - sizes[0] == router


class Experts(PreTrainedModel):
    """A router and experts, as a list of modules."""

    config_class = LlamaConfig

    def __init__(self, count, **config):
        super().__init__(LlamaConfig(**config))
        self.gate = torch.nn.Linear(6, count)
        self.experts = torch.nn.ModuleList(
            torch.nn.ModuleDict({"up": torch.nn.Linear(6, 5), "down": torch.nn.Linear(5, 6)}) for _ in range(count)
        )


def test_only_the_chosen_experts_of_a_list_count():
    assert matrix_parameters(Experts(4, num_experts_per_tok=2)) == (4 * 6 + 2 * 60, 0)
    assert matrix_parameters(Experts(12, num_experts_per_tok=2)) == (12 * 6 + 2 * 60, 0)


def test_biases_of_stacked_experts_do_not_count():
    model = Experts(1, num_experts_per_tok=2)
    model.experts = torch.nn.Module()
    model.experts.up = torch.nn.Parameter(torch.zeros(4, 6, 5))
    model.experts.up_bias = torch.nn.Parameter(torch.zeros(4, 5))
    assert matrix_parameters(model) == (6 + 2 * 30, 0)


def test_experts_that_cannot_be_told_apart_are_refused():
    with pytest.raises(DataError, match="num_experts_per_tok=None"):
        matrix_parameters(Experts(4))
    joined = Experts(1, num_experts_per_tok=2)
    joined.experts = torch.nn.Linear(6, 20)  # all of them in one matrix
    with pytest.raises(DataError, match=r"experts \(Linear\)"):
        matrix_parameters(joined)


def test_packed_weights_count_as_what_they_stand_for():
    linear = torch.nn.Linear(16, 8)
    wanted = matrix_parameters(torch.nn.Sequential(linear))
    linear.weight = torch.nn.Parameter(torch.zeros(64, 1, dtype=torch.uint8), requires_grad=False)
    assert matrix_parameters(torch.nn.Sequential(linear)) == wanted == (128, 0)


def test_a_model_without_attention_is_refused():
    with torch.device("meta"):
        mamba = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1))
    with pytest.raises(DataError, match="mamba"):
        stack_cost(mamba, True)


SMALL = dict(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"]}, "linear_attention layers"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "conv layers"),
        ("falcon_h1", {}, "convolutions"),
        ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}, "mamba layers"),
        ("deepseek_v3", {"kv_lora_rank": 8, "first_k_dense_replace": 2}, "kv_lora_rank=8"),
        ("gemma3n_text", {"num_kv_shared_layers": 1, "layer_types": ["full_attention"] * 2}, "num_kv_shared_layers=1"),
    ],
)
def test_layers_that_do_not_attend_alike_are_refused(family, changes, words):
    with torch.device("meta"):
        decoder = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL, **changes))
    with pytest.raises(DataError, match=words):
        stack_cost(decoder, True)


@pytest.mark.parametrize("kind", ["full_attention", "sliding_attention", "chunked_attention"])
def test_windows_of_attention_are_counted(kind):
    with torch.device("meta"):
        decoder = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL))
    whole = stack_cost(decoder, True)
    decoder.config.layer_types = [kind, "full_attention"]
    assert stack_cost(decoder, True) == whole


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.integers(0, 10**4))
def test_paying_off_is_the_first_question_that_is_no_dearer(encoding, raw, slotted):
    found = reuses_to_pay_off(encoding, raw, slotted)
    if found is None:
        assert slotted >= raw
        return
    assert encoding + found * slotted <= found * raw
    assert found == 1 or encoding + (found - 1) * slotted > (found - 1) * raw


@given(st.integers(1, 60), st.integers(1, 60), st.booleans())
@settings(max_examples=30)
def test_longer_prompts_cost_more(one, more, causal):
    assume(one < more)
    cost = StackCost(weights=100, adapters=5, attention=8, output=10, cache_bytes=4, causal=causal)
    assert cost.flops(one) < cost.flops(more)
    assert cost.flops(one, adapted=True) - cost.flops(one) == 2 * 5 * one
    whole = StackCost(**{**vars(cost), "causal": False})
    assert cost.flops(one) <= whole.flops(one)


def test_a_long_passage_is_counted_whole_where_it_is_read_whole(model):
    long = "ក្មេងទៅ " * 80
    found = prompt_lengths(model.processor, [long], "Say it.")
    assert found["raw"] == found["raw_uncut"]
    assert found["slotted"] == model.processor("Say it.", [long])["attention_mask"].sum(dim=1).tolist()
    assert len(model.processor.read_passages([long])[0]) > 1, "vacuous unless it is long"


def test_costs_of_prompts(make_model, base_folder):
    model = make_model(long_passages="cut")
    texts = [*KHMER, "ក្មេង" * 60]
    found = prompt_costs(model, texts)
    tokens = prompt_tokens(model.processor, texts)
    for kind, name in {"raw": "raw", "slots": "slotted", "raw_uncut": "raw_uncut"}.items():
        assert found[kind]["tokens"] == tokens[name]
    assert found["raw_uncut"].keys() == found["raw"].keys()
    assert found["raw_uncut"]["flops"] > found["raw"]["flops"]
    assert found["ratio"]["tokens"] == found["ratio"]["cache_bytes"] == pytest.approx(tokens["ratio"])
    assert found["template_tokens"] == tokens["slotted"] - 4
    assert (found["cut"], found["n"]) == (1, 4)
    lengths = tiny.passage_inputs(model.processor, [[text] for text in texts])["foreign_attention_mask"].sum(dim=(1, 2))
    assert found["slots"]["encoder_tokens"] == lengths.sum() / 4
    slots = found["slots"]
    assert slots["flops"] == slots["decoder_flops"] + slots["encoder_flops"]
    decoder, encoder = stack_cost(model.decoder, True), stack_cost(model.encoder, False)
    counts = prompt_lengths(model.processor, texts)
    slotted = counts["slotted"]
    for name in ("raw", "raw_uncut"):
        assert found[name]["flops"] == sum(decoder.flops(n) for n in counts[name]) / 4, "LoRA is off"
    assert slots["decoder_flops"] == sum(decoder.flops(n, adapted=True) for n in slotted) / 4
    bridge = sum(p.numel() for part in (model.projector, model.slot_embedder) for p in part.parameters() if p.dim() > 1)
    passes = sum(encoder.flops(int(n)) for n in lengths) / 4
    assert slots["encoder_flops"] == pytest.approx(passes + 2 * bridge)
    saved = found["raw"]["decoder_flops"] - slots["decoder_flops"]
    assert found["reuses"] * saved >= slots["encoder_flops"] > (found["reuses"] - 1) * saved
    json.dumps(found)
    shapes = shape_model(base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama"), num_slots=4)
    shapes.processor = model.processor
    assert prompt_costs(shapes, texts) == found, "no weight is needed"


@pytest.mark.parametrize("expander", SLOT_EXPANDERS)
def test_the_bridges_work_is_what_torch_counts(make_model, expander):
    model = make_model(slot_expander=expander, slot_residual=True)
    counts = []
    for tokens in (3, 9):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            if model.slot_embedder.reads_states:
                model.slot_embedder(
                    torch.randn(1, tokens, model.slot_embedder.state_width), torch.arange(tokens)[None] + 1
                )
            else:
                model.slot_embedder(model.projector(torch.randn(1, model.config.encoder_hidden_size)))
        assert counter.get_total_flops() == bridge_flops(model, tokens)
        counts.append(counter.get_total_flops())
    assert (counts[0] < counts[1]) == model.slot_embedder.reads_states


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.en").write_text("\n".join([ENGLISH[0], "", *ENGLISH[1:]]) + "\n", "utf-8")
    (folder / "a.km").write_text("\n".join([KHMER[0], "ច", *KHMER[1:]]) + "\n", "utf-8")
    (folder / "a.latin").write_text("kmeng tov sala\nch\n\nbay 27\n", "utf-8")
    (folder / "short.km").write_text("ក\n", "utf-8")
    return folder


def run(files, tmp_path, *options) -> dict:
    texts = [f"{name}={files}/a.{name}" for name in ("en", "km")]
    assert main(["eval", "tokens", "--texts", *texts, *options, "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "tokens.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((tmp_path / "tokens.json").read_text())["results"]


def test_the_command_counts_with_any_tokenizers(files, base_folder, tiktoken_file, tmp_path, capsys):
    named = ["--tokenizer", f"bpe={tiktoken_file}", base_folder("decoder", "gpt2")]
    found = run(files, tmp_path, f"latin={files}/a.latin", *named)
    assert len(found["tokenizers"]) == 2
    assert found["tokenizers"]["bpe"]["latin"]["n"] == 2, "lines that are blank in one file are left out of all"
    assert "costs" not in found
    assert "premium" in capsys.readouterr().out


def test_the_command_costs_a_models_prompts(files, model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "model")
    found = run(files, tmp_path / "out", "--model", str(tmp_path / "model"))
    assert found["tokenizers"].keys() == {"decoder", "encoder"}
    assert found["costs"].keys() == {"km"}
    assert found["costs"]["km"] == json.loads(json.dumps(prompt_costs(model, KHMER)))
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("pays off", "encoder GFLOP", "cache KiB", "raw uncut"))


def test_the_command_costs_shapes(files, paper_shapes, base_folder, tmp_path):
    shapes = ["--encoder", f"{paper_shapes}/xlmr", "--decoder", f"{paper_shapes}/llama"]
    shapes += ["--encoder-tokenizer", base_folder("encoder", "xlm-roberta")]
    shapes += ["--decoder-tokenizer", base_folder("decoder", "llama")]
    found = run(files, tmp_path, *shapes, "--limit", "2", "--num-slots", "16")["costs"]["km"]
    assert found["decoder"]["cache_bytes_per_token"] == 32 * 1024
    assert (found["n"], found["slots"]["tokens"]) == (2, 16 + found["template_tokens"])


def test_bad_input_is_refused_before_a_model_loads(files, base_folder, capsys):
    english, khmer = f"en={files}/a.en", f"km={files}/a.km"
    nowhere = ["--model", "/nowhere/at/all"]
    decoder = base_folder("decoder", "llama")
    cases = {
        "NAME=FILE": ["--texts", f"{files}/a.en", *nowhere],
        "stands twice": ["--texts", english, english, *nowhere],
        "'fr' is not among": ["--texts", english, "--english", "fr", *nowhere],
        "none.km": ["--texts", english, f"km={files}/none.km", *nowhere],
        "not line-aligned": ["--texts", english, f"km={files}/short.km", *nowhere],
        "nothing to count with": ["--texts", english, khmer],
        "--limit": ["--texts", english, "--limit", "0", *nowhere],
        "together": ["--texts", english, "--encoder", decoder],
        "or none of them": ["--texts", english, "--encoder", decoder, "--decoder", decoder, *nowhere],
        "no tokenizer": ["--texts", english, "--tokenizer", str(files), *nowhere],
        "write NAME=": ["--texts", english, "--tokenizer", decoder, decoder, *nowhere],
        "is a decoder": ["--texts", english, "--encoder", decoder, "--decoder", decoder],
    }
    for words, options in cases.items():
        assert main(["eval", "tokens", *options]) == 2, words
        error = capsys.readouterr().err
        assert words in error, (words, error)
        assert "/nowhere" not in error
