"""Configuration of LLINK models: which bases, how wide the bridge, which teacher, which slots."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PretrainedConfig

from .configuration_bases import as_config, encoder_positions, is_read, layer_number, text_config
from .errors_llink import LlinkConfigError
from .errors_llink import LlinkError as LlinkError

POOLINGS = ("mean", "cls", "max", "last")
TEACHER_STATES = ("placeholder", "mean")
TEACHER_CONDITIONINGS = ("none", "center", "whiten")
SLOT_ADAPTERS = ("gated", "none")
SLOT_EXPANDERS = ("mlp", "tokens")
#: Kinds of slots that lost against `tokens` on every measure and are gone.
GONE_EXPANDERS = ("low_rank", "queries", "resampler", "segments", "lexicon")
#: Fields that earlier versions wrote, of kinds of slots that are gone.
GONE_FIELDS = ("slot_vocabulary_size",)
#: Shares of the encoder's layers whose states `tokens` reads, unless told otherwise.
SLOT_LAYERS = (1 / 3, 2 / 3, 1.0)
PAPER_SLOTS = 8
#: What a passage may hold that is written out in the prompt, as ordinary tokens, instead of going into slots.
LITERAL_KINDS = ("number", "date", "time", "calendar", "address", "file", "latin")
LONG_PASSAGES = ("split", "cut")
STAGES = ("untrained", "align", "lexicon", "inject")

#: The teacher's prompts. Every template holds `{text}` once; the placeholder `<foreign_emb>` stands after it.
PAPER_TEACHER_TEMPLATE = "User:{text}"
PROMPT_EOL_TEMPLATE = 'This sentence: "{text}" means in one word: "'

FOREIGN_TOKEN = "<foreign_emb>"
MAX_SLOTS = 256
MAX_WIDTH = 65_536


#: Valid ranges of the numeric fields.
NUMBERS: dict[str, tuple[float, float]] = {
    "num_slots": (1, MAX_SLOTS),
    "projector_hidden_size": (1, MAX_WIDTH),
    "projector_dropout": (0, 0.99),
    "teacher_max_tokens": (1, 1_000_000),
    "teacher_components": (1, MAX_WIDTH),
    "teacher_whitening_power": (0, 1),
    "slot_adapter_hidden_size": (1, MAX_WIDTH),
    "slot_expander_hidden_size": (1, MAX_WIDTH),
    "encoder_last_width": (1, MAX_WIDTH),
    "lora_rank": (1, 4096),
    "lora_alpha": (0, 65_536),
    "lora_dropout": (0, 0.99),
    "tokens_per_slot": (1, MAX_SLOTS),
    "min_slots": (1, MAX_SLOTS),
    "max_slots": (1, 1_000_000),
    "max_pieces": (1, 1_000_000),
    "max_foreign_chars": (1, 1_000_000),
    "max_foreign_tokens": (4, 1_000_000),
    "reserved_token_start": (1, 100_000_000),
}
REAL_NUMBERS = ("projector_dropout", "teacher_whitening_power", "lora_alpha", "lora_dropout")
OPTIONAL_NUMBERS = (
    "num_slots",
    "encoder_last_width",
    "tokens_per_slot",
    "projector_hidden_size",
    "slot_adapter_hidden_size",
    "slot_expander_hidden_size",
    "reserved_token_start",
)


@strict
class LlinkConfig(PretrainedConfig):
    r"""
    Configuration of a [`LlinkForCausalLM`]: a frozen encoder, a bridge, and a frozen decoder with LoRA
    (arXiv 2510.27254, section 4).

    Args:
        encoder_config (`dict` or `PretrainedConfig`): Configuration of the frozen multilingual encoder.
        decoder_config (`dict` or `PretrainedConfig`): Configuration of the frozen instruction-tuned decoder.
        encoder_name_or_path (`str`, *optional*): Where a light checkpoint loads the encoder from.
        encoder_revision (`str`, *optional*): Commit of the encoder's repository.
        decoder_name_or_path (`str`, *optional*): Where a light checkpoint loads the decoder from.
        decoder_revision (`str`, *optional*): Commit of the decoder's repository.
        encoder_subfolder (`str`): Where in its repository or folder the encoder lies.
        encoder_is_causal (`bool`): Take an encoder of a decoder's architecture, such as Qwen3-Embedding or e5-mistral;
            set by itself for one that says it is an embedding model.
        encoder_last_width (`int`, *optional*): Width of its last hidden state where it is not that of the others; read
            from the model.
        encoder_prefix (`str`): What an embedding model wants before each text, such as `query: `; part of no slot.
        encoder_normalized (`bool`): Whether the pooled vector is brought to one length, √d_e.
        source_language (`str`, *optional*): BCP-47 tag of the foreign text, such as `km`, for encoders that mark it
            (NLLB, mBART, M2M-100), and to warn of text in another script.
        stage (`str`): How far the model is trained: `untrained`, `align` (Stage A), `lexicon` (its slots' dictionary)
            or `inject` (Stage B).
        self_contained (`bool`): Whether the checkpoint holds the bases' weights too.
        num_slots (`int`, *optional*): K, the soft slots of one passage, for `mlp` (paper 4.2: 8). None for `tokens`: a
            passage has as many as its tokens.
        pooling (`str`): How encoder states become one vector: `mean` (paper 4.1), `cls`, `max` or `last`, the
            last token's state, for decoders' architectures.
        encoder_layer (`int` or `float`): The hidden state that is pooled; -1 is the last (the paper), 0 the embeddings,
            and a number between 0 and 1 that share of the layers: 0.5 is the layer half-way up. What lies above is not
            run.
        projector_hidden_size (`int`, *optional*): Width of the projector's hidden layer; 4 × the encoder's when not
            given (768 → 3072, paper 4.1).
        projector_dropout (`float`): Dropout after the projector's GELU (paper 4.1: 0.10).
        teacher_template (`str`): The prompt whose hidden states are the teacher; holds `{text}` once.
        teacher_state (`str`): `placeholder`, the state at `<foreign_emb>` (paper 4.1), or `mean`, the states averaged
            over the sentence's own tokens.
        teacher_layer (`int` or `float`): The decoder's hidden state that teaches, given likewise; -1 is the final
            one (the paper).
        teacher_max_tokens (`int`): Tokens at which the English sentence is cut.
        teacher_conditioning (`str`): `none` (the paper), `center` or `whiten` the teacher's space.
        teacher_components (`int`): Principal components kept by `whiten`.
        teacher_whitening_power (`float`): Exponent on the singular values; 1 whitens fully, 0 only projects.
        slot_adapter (`str`): `gated` residual adapter, or `none`.
        slot_adapter_hidden_size (`int`, *optional*): Its inner width; a quarter of the decoder's when not given.
        slot_expander (`str`): What slots are made of: `mlp` (one pooled vector: d → 2d → K·d, the released code), or
            `tokens` (one slot for each of the encoder's tokens, from its states in several layers), which the decoder
            can read word for word.
        slot_expander_hidden_size (`int`, *optional*): Inner width; when not given 2·d for `mlp`, for `tokens` the width
            of the states.
        slot_layers (`list[int | float]`, *optional*): The encoder's layers whose states `tokens` reads side by side,
            given as `encoder_layer` is, 1.0 for all of the layers; a third, two thirds and all of them when not given.
        tokens_per_slot (`int`, *optional*): Encoder tokens that share a slot of `tokens`, so that K follows the length;
            1 when not given. Not for `mlp`, whose slots are made of one vector.
        min_slots (`int`), max_slots (`int`): Fewest and most slots of a piece of a passage, for `tokens`.
        literals (`list[str]`, *optional*): What of a passage is not put into slots but written out in the prompt, at
            its place: `number`, `date`, `time`, `calendar` (months at a number, and weekdays, by their English names),
            `address` (URLs, e-mail), `file`, `latin` (runs of Latin script in a passage of another one). All of them
            for `tokens` when not given; none for `mlp`, as in the paper.
        slot_residual (`bool`): Whether the common part of the slots of `mlp` is the adapter's output, with a learned
            weight, and the expander gives only what tells one slot from another: their mean starts near Stage A's
            vector. False is the paper.
        lora_rank (`int`), lora_alpha (`float`), lora_dropout (`float`): LoRA in the decoder (paper 4.2: 16, 16).
        lora_target_modules (`list[str]`, *optional*): Names of the adapted projections; found from the decoder when
            not given.
        lora_merged (`bool`): Whether LoRA is merged into the decoder's weights for good, by `merge_and_unload`.
        long_passages (`str`): What becomes of a passage that is longer than the encoder reads at once: `split` at
            the ends of sentences into pieces, whose slots stand one after the other, or `cut` (the paper).
        max_pieces (`int`): Pieces of a passage at most.
        max_foreign_chars (`int`): Characters that are read at once (paper 5.1: 256).
        max_foreign_tokens (`int`): Encoder tokens that are read at once.
        reserved_token_start (`int`, *optional*): The id of `<f0>`; the decoder's vocabulary size when not given, so
            that no output row can ever belong to a reserved token.

    Raises:
        LlinkConfigError: If a field's value lies outside its valid set.
    """

    model_type = "llink"
    sub_configs = {"encoder_config": AutoConfig, "decoder_config": AutoConfig}  # noqa: RUF012 - transformers' contract

    encoder_config: dict | PretrainedConfig | None = None
    decoder_config: dict | PretrainedConfig | None = None
    encoder_name_or_path: str | None = None
    encoder_revision: str | None = None
    decoder_name_or_path: str | None = None
    decoder_revision: str | None = None
    encoder_subfolder: str = ""
    encoder_is_causal: bool = False
    encoder_last_width: int | None = None
    encoder_prefix: str = ""
    encoder_normalized: bool = False
    source_language: str | None = None
    stage: str = "untrained"
    self_contained: bool = False
    num_slots: int | None = None
    pooling: str = "mean"
    encoder_layer: int | float = -1
    projector_hidden_size: int | None = None
    projector_dropout: float | int = 0.1
    teacher_template: str = PROMPT_EOL_TEMPLATE
    teacher_state: str = "mean"
    teacher_layer: int | float = 1 / 3
    teacher_max_tokens: int = 128
    teacher_conditioning: str = "whiten"
    teacher_components: int = 256
    teacher_whitening_power: float | int = 0.5
    slot_adapter: str = "gated"
    slot_adapter_hidden_size: int | None = None
    slot_expander: str = "mlp"
    slot_expander_hidden_size: int | None = None
    slot_layers: list[int | float] | None = None
    slot_residual: bool = True
    tokens_per_slot: int | None = None
    min_slots: int = 1
    max_slots: int = MAX_SLOTS
    literals: list[str] | None = None
    long_passages: str = "split"
    max_pieces: int = 64
    lora_rank: int = 16
    lora_alpha: float | int = 16
    lora_dropout: float | int = 0.05
    lora_target_modules: list[str] | None = None
    lora_merged: bool = False
    max_foreign_chars: int = 256
    max_foreign_tokens: int = 256
    reserved_token_start: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if not self.is_remote_code():  # with llink installed, its own pipeline is registered
            kwargs.pop("custom_pipelines", None)
        for name in GONE_FIELDS:
            kwargs.pop(name, None)
        self.encoder_config = as_config(self.encoder_config)
        self.decoder_config = as_config(self.decoder_config)
        chosen = {name: getattr(self, name)._attn_implementation for name in self.sub_configs if getattr(self, name)}
        super().__post_init__(**kwargs)
        if kwargs.get("attn_implementation") is None:
            for name, attention in chosen.items():  # transformers has just reset the bases' own choice to None
                getattr(self, name)._attn_implementation = attention
        self.settle()

    def settle(self) -> None:
        """Checks the fields and fills in what follows from them; for a copy in which some were changed, too.

        Raises:
            LlinkConfigError: If a field's value lies outside its valid set.
        """
        self._validate_choices()
        self._count_layers()
        self._set_slots()
        self._validate_numbers()
        if is_read(self.encoder_config):
            self.projector_hidden_size = self.projector_hidden_size or 4 * self.encoder_hidden_size
            self.max_foreign_tokens = min(self.max_foreign_tokens, encoder_positions(self.encoder_config))
        if is_read(self.decoder_config):
            self._fill_decoder_widths()

    def _fill_decoder_widths(self) -> None:
        d: Any = self.hidden_size
        self.slot_adapter_hidden_size = self.slot_adapter_hidden_size or max(1, d // 4)
        inner = 2 * d if self.slot_layers is None else self.states_width if is_read(self.encoder_config) else None
        self.slot_expander_hidden_size = self.slot_expander_hidden_size or inner
        self.teacher_components = min(self.teacher_components, d)
        vocab_size = self.get_text_config().vocab_size
        if self.reserved_token_start is None:
            self.reserved_token_start = vocab_size
        if self.reserved_token_start < vocab_size:
            raise LlinkConfigError(
                f"reserved_token_start={self.reserved_token_start} lies inside the decoder's vocabulary of "
                f"{vocab_size}: the decoder could emit a reserved token. Use {vocab_size} or more, or leave it out."
            )

    def _set_slots(self) -> None:
        """How many slots a passage has, and which layers they read, as far as the kind says so."""
        if self.slot_expander != "tokens":
            for name, why in (
                ("slot_layers", "read the encoder's states"),
                ("tokens_per_slot", "share tokens: these are made of one vector, whatever the passage's length"),
                ("literals", "stand where something of a passage is: these are made of one vector, without an order"),
            ):
                if getattr(self, name):
                    raise LlinkConfigError(
                        f"{name}={getattr(self, name)} is for slots that {why}: leave it out, or choose "
                        "slot_expander='tokens'."
                    )
            self.literals = []
            self.num_slots = PAPER_SLOTS if self.num_slots is None else self.num_slots
            return
        if self.num_slots is not None:
            raise LlinkConfigError(
                f"num_slots={self.num_slots} does not apply to slot_expander='tokens', which has a slot for each of a "
                "passage's tokens. Leave it out, or lower max_foreign_tokens."
            )
        self.tokens_per_slot = 1 if self.tokens_per_slot is None else self.tokens_per_slot
        self.literals = list(LITERAL_KINDS if self.literals is None else self.literals)
        if unknown := sorted(set(self.literals) - set(LITERAL_KINDS)):
            raise LlinkConfigError(f"literals={unknown} are none of {', '.join(LITERAL_KINDS)}.")
        layers = list(SLOT_LAYERS) if self.slot_layers is None else self.slot_layers
        if not layers:
            raise LlinkConfigError("slot_layers is empty: give at least one of the encoder's layers.")
        self.slot_layers = [layer_number("slot_layers", layer, self.encoder_config) for layer in layers]

    def _validate_choices(self) -> None:
        if self.slot_expander in GONE_EXPANDERS:
            raise LlinkConfigError(
                f"slot_expander={self.slot_expander!r} is no more: it lost against 'tokens' on every measure. Train "
                "'tokens' from the Stage A model, or load this one with the llink that made it."
            )
        for name, valid in (
            ("stage", STAGES),
            ("pooling", POOLINGS),
            ("teacher_state", TEACHER_STATES),
            ("teacher_conditioning", TEACHER_CONDITIONINGS),
            ("long_passages", LONG_PASSAGES),
            ("slot_adapter", SLOT_ADAPTERS),
            ("slot_expander", SLOT_EXPANDERS),
        ):
            if getattr(self, name) not in valid:
                raise LlinkConfigError(f"{name}={getattr(self, name)!r} is not one of {', '.join(valid)}.")
        if not isinstance(self.teacher_template, str) or self.teacher_template.count("{text}") != 1:
            raise LlinkConfigError(
                f"teacher_template={self.teacher_template!r} must hold '{{text}}' exactly once; "
                f"the paper's is {PAPER_TEACHER_TEMPLATE!r}."
            )

    def _count_layers(self) -> None:
        """Turns a share of a base's layers into the layer's number, and refuses layers that the base does not have."""
        for name, base in (("encoder_layer", self.encoder_config), ("teacher_layer", self.decoder_config)):
            value = getattr(self, name)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            setattr(self, name, layer_number(name, value, base))

    def _validate_numbers(self) -> None:
        for name, (low, high) in NUMBERS.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL_NUMBERS:
                continue
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole or (isinstance(value, float) and name in REAL_NUMBERS)) or not low <= value <= high:
                kind = "a number" if name in REAL_NUMBERS else "a whole number"
                raise LlinkConfigError(f"{name}={value!r} is not {kind} in [{low}, {high}].")
        if self.min_slots > self.max_slots:
            raise LlinkConfigError(f"min_slots={self.min_slots} is above max_slots={self.max_slots}.")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; what was saved before there were these options is read as it was then.

        Raises:
            LlinkConfigError: If it is no dict, or a field's value lies outside its valid set.
        """
        if type(config_dict) is not dict or not all(isinstance(name, str) for name in config_dict):
            raise LlinkConfigError(f"A configuration is a dict of fields by name, not {config_dict!r:.60}.")
        if "model_type" in config_dict:
            config_dict = {"literals": [], "long_passages": "cut", **config_dict}
        return super().from_dict(config_dict, **kwargs)

    @property
    def encoder_hidden_size(self) -> int:
        """d_e, the width of the encoder's hidden state that is pooled."""
        return self._width_of(self.encoder_layer)

    @property
    def states_width(self) -> int:
        """C, the width of the hidden states that slots of tokens are made of, side by side."""
        return sum(self._width_of(layer) for layer in self.slot_layers or ())

    def _width_of(self, layer: int | float) -> int:
        config = text_config(self.encoder_config)
        is_last = layer in (-1, getattr(config, "num_hidden_layers", None))
        return (is_last and self.encoder_last_width) or int(config.hidden_size)

    @property
    def hidden_size(self) -> int | None:
        """d, the decoder's width. None without a decoder."""
        return None if self.decoder_config is None else int(self.get_text_config().hidden_size)

    @property
    def vocab_size(self) -> int | None:
        """Rows of the decoder's output layer; no reserved token has one. None without a decoder."""
        return None if self.decoder_config is None else int(self.get_text_config().vocab_size)

    @property
    def filler_token_id(self) -> int:
        """What a decoder is told to read where a slot stands: its padding, for whatever it looks up by id."""
        pad = getattr(self.get_text_config(), "pad_token_id", None)
        return pad if isinstance(pad, int) and 0 <= pad < self.vocab_size else 0

    def to_dict(self) -> dict[str, Any]:
        """As in transformers, without the pipelines: it puts classes there, and saving declares them anew."""
        return {name: value for name, value in super().to_dict().items() if name != "custom_pipelines"}

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """The decoder's configuration: what transformers asks for cache shapes and vocabulary size."""
        if self.decoder_config is None:
            return self
        return self.decoder_config.get_text_config()
