"""What two bases must do before anything is trained on them: a few tokens through both tell, always.

What fails here would train without an error and answer wrongly.
"""

from __future__ import annotations

import inspect
import warnings

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .modeling_llink import LlinkForCausalLM
from .modeling_llink.errors import BaseModelError
from .modeling_llink.layers import encoder_states
from .modeling_llink.lora import lora_modules

#: Differences beyond which two passes are not the same, as shares of the spread: in float32, and in less.
CLOSE, COARSE = 0.02, 0.5
_SHORT, _LONG = 4, 7


def check_bases(model: LlinkForCausalLM) -> None:
    """Refuses bases that llink would be wrong on, by name, with what to do.

    A batch gives what its rows give alone, for both; the decoder reads what is put in the place of its embeddings, and
    reads it as its own; LoRA gets a gradient. A decoder that answers otherwise with its cache answers without it.

    Raises:
        BaseModelError: If one of these does not hold.
    """
    width = model.get_input_embeddings().weight.shape[1]
    if width != model.config.hidden_size:
        raise BaseModelError(
            f"{_decoder(model)} has embeddings {width} wide and its layers {model.config.hidden_size}: slots are put "
            "in with the embeddings. Choose a decoder of one width."
        )
    for check in (_check_encoder, _check_batch, _check_slots, _check_gradients, _check_cache):
        try:
            check(model)
        except BaseModelError:
            raise
        except Exception as error:
            kind = "encoder" if check is _check_encoder else "decoder"
            name, base = getattr(model.config, f"{kind}_name_or_path"), getattr(model, kind)
            reason = (str(error).strip().splitlines() or [""])[0]
            raise BaseModelError(
                f"The {kind} {name!r} ({type(base).__name__}) does not run on a few tokens, alone or in a batch "
                f"({type(error).__name__}: {reason}). Choose another {kind}."
            ) from error


def check_end(tokenizer: PreTrainedTokenizerBase, name: str | None) -> None:
    """Refuses a decoder's tokenizer with which an answer would never end.

    Raises:
        BaseModelError: If it has no end-of-sequence token, and no chat template that may end a turn otherwise.
    """
    if tokenizer.eos_token is None and not tokenizer.chat_template:
        raise BaseModelError(
            f"The tokenizer of the decoder {name!r} has no end-of-sequence token and no chat template: an answer would "
            "never end. Set tokenizer.eos_token to the one it was trained with and save it again."
        )


def _check_encoder(model: LlinkForCausalLM) -> None:
    config = model.config
    layers = sorted({config.encoder_layer, *(config.slot_layers or ())})
    ids, mask = _padded(_some_ids(config.encoder_config.get_text_config().vocab_size), left=False, fill=_pad(model))
    alone = encoder_states(model.encoder, layers, ids[:1, :_SHORT], mask[:1, :_SHORT])
    together = encoder_states(model.encoder, layers, ids, mask)
    widths = {layer: states.shape[-1] for layer, states in zip(layers, alone, strict=True)}
    if config.slot_layers and sum(widths[layer] for layer in config.slot_layers) != config.states_width:
        raise BaseModelError(
            f"The encoder {config.encoder_name_or_path!r} ({type(model.encoder).__name__}) has layers of other widths "
            f"({widths}) than its configuration says ({config.states_width} in all). Name its last: slot_layers=[-1]."
        )
    for layer, one, two in zip(layers, alone, together, strict=True):
        if _differ(model.encoder, two[:1, :_SHORT], one):
            raise BaseModelError(
                f"The encoder {config.encoder_name_or_path!r} ({type(model.encoder).__name__}) reads a text otherwise "
                f"beside a longer one (layer {layer}): it does not leave out padding. Choose another encoder."
            )


@torch.no_grad()
def _check_batch(model: LlinkForCausalLM) -> None:
    ids, mask = _padded(_some_ids(model.config.vocab_size), left=True, fill=model.config.filler_token_id)
    ids, mask = ids.to(model.device), mask.to(model.device)
    alone = model.decoder(input_ids=ids[:1, -_SHORT:]).logits[:, -1]
    together = model.decoder(input_ids=ids, attention_mask=mask, **_positions(model, mask)).logits[:1, -1]
    if _differ(model.decoder, together, alone):
        raise BaseModelError(
            f"{_decoder(model)} reads a prompt otherwise beside a longer one: it does not leave out padding on the "
            "left, which batches have. Choose another decoder."
        )


@torch.no_grad()
def _check_slots(model: LlinkForCausalLM) -> None:
    """A slot that is the embedding of the token that stands there changes nothing; another one does."""
    start, filler = model.config.reserved_token_start, model.config.filler_token_id
    ids = _some_ids(model.config.vocab_size).unsqueeze(0).to(model.device)  # (1, S)
    plain, marked = ids.clone(), ids.clone()
    plain[0, 2], marked[0, 2] = filler, start
    slot = model.get_input_embeddings()(plain[:, 2:3]).unsqueeze(1)  # (1, 1, 1, d)
    wanted = model.decoder(input_ids=plain).logits
    found, other = (model(input_ids=marked, foreign_slots=given).logits for given in (slot, -slot + slot.std() + 1))
    if _differ(model.decoder, found, wanted) or torch.equal(other[:, -1], found[:, -1]):
        raise BaseModelError(
            f"{_decoder(model)} does not read what is put in the place of its embeddings as it reads tokens: slots "
            "would mean nothing. Choose another decoder."
        )


@torch.enable_grad()
def _check_gradients(model: LlinkForCausalLM) -> None:
    ids = _some_ids(model.config.vocab_size).unsqueeze(0).to(model.device)
    weights = [weight.weight for _, module in lora_modules(model.decoder) for weight in module.lora_B.values()]
    loss = model.decoder(input_ids=ids).logits.float().square().mean()
    found = torch.autograd.grad(loss, weights, allow_unused=True) if loss.requires_grad else ()
    if all(gradient is None or not gradient.any() for gradient in found):
        raise BaseModelError(
            f"{_decoder(model)} gives LoRA in {model.config.lora_target_modules} no gradient: these layers are not "
            "called, or where torch takes none. Name others with lora_target_modules, or choose another decoder."
        )


@torch.no_grad()
def _check_cache(model: LlinkForCausalLM) -> None:
    """A batch's second token is the same from the cache as from all tokens read again; else it is not kept."""
    ids, mask = _padded(_some_ids(model.config.vocab_size), left=True, fill=model.config.filler_token_id)
    asked = dict(max_new_tokens=2, min_new_tokens=2, do_sample=False, pad_token_id=model.config.filler_token_id)
    asked |= dict(attention_mask=mask.to(model.device), return_dict_in_generate=True, output_logits=True)
    cached, anew = (model.generate(ids.to(model.device), use_cache=kept, **asked) for kept in (True, False))
    alike = cached.sequences[:, -2] == anew.sequences[:, -2]  # or one had the choice between two
    if alike.any() and _differ(model.decoder, cached.logits[-1][alike], anew.logits[-1][alike]):
        model.generation_config.use_cache = False
        warnings.warn(
            f"{_decoder(model)} answers otherwise with its cache than without, in batches at least: it is not used "
            "(generation_config.use_cache=False), and long answers take longer.",
            stacklevel=5,
        )


def _decoder(model: LlinkForCausalLM) -> str:
    return f"The decoder {model.config.decoder_name_or_path!r} ({type(model.decoder).__name__})"


def _some_ids(vocab_size: int) -> Tensor:
    """Token ids (S,) from the middle of a vocabulary, where no special ones lie."""
    return torch.linspace(vocab_size // 3, 2 * vocab_size // 3, _LONG).long()


def _padded(ids: Tensor, left: bool, fill: int) -> tuple[Tensor, Tensor]:
    """Ids (S,) → a short row and a long one (2, S), and their mask."""
    rows, mask = torch.stack([ids, ids]), torch.ones(2, _LONG, dtype=torch.long)
    gap = slice(0, _LONG - _SHORT) if left else slice(_SHORT, _LONG)
    rows[0, gap], mask[0, gap] = fill, 0
    return rows, mask


def _pad(model: LlinkForCausalLM) -> int:
    return getattr(model.config.encoder_config.get_text_config(), "pad_token_id", None) or 0


def _positions(model: LlinkForCausalLM, mask: Tensor) -> dict[str, Tensor]:
    """Position ids as `generate` gives them, to decoders that take them."""
    takes = "position_ids" in inspect.signature(model.decoder.forward).parameters
    return {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)} if takes else {}


def _differ(base: nn.Module, found: Tensor, wanted: Tensor) -> bool:
    coarse = found.dtype != torch.float32 or getattr(base, "is_quantized", False)
    difference = (found.float() - wanted.float()).abs().max() / wanted.float().std()
    return not bool(difference <= (COARSE if coarse else CLOSE))


def is_slow_on_processor(dtype: torch.dtype) -> bool:
    """Whether this machine's processor lacks instructions for a half precision: a product then takes dozens of times
    what it takes in float32."""
    supported = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    if dtype not in supported or not torch.backends.mkldnn.is_available():
        return False
    return not getattr(torch.ops.mkldnn, supported[dtype])()


def warn_of_slow_dtypes(model: LlinkForCausalLM) -> None:
    """Says so where a base is on the processor, in a half precision that the processor is slow in."""
    weights = [next(base.parameters()) for base in (model.encoder, model.decoder)]
    dtypes = {one.dtype for one in weights if one.device.type == "cpu"}
    if slow := {str(dtype).removeprefix("torch.") for dtype in dtypes if is_slow_on_processor(dtype)}:
        warnings.warn(
            f"The bases are in {' and '.join(sorted(slow))}, for which this processor has no instructions: training "
            "takes dozens of times longer than in float32. Load the model with dtype='float32'.",
            stacklevel=2,
        )
