"""Google's Universal Sentence Encoder multilingual v3: the code that travels with a converted folder.

`convert_use.py` puts it there; it stands by itself, as code of a base's own must. After
[Yang et al., 2019](https://arxiv.org/abs/1907.04307), the convolutional one.

Shapes: B texts, L tokens, d = 512, c = 256 channels.
"""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

#: Widths of the convolutions, in tokens.
KERNELS = (2, 3, 5)


class UseConfig(PretrainedConfig):
    """Sizes of the model; position 0 of its states is the text's own vector."""

    model_type = "use_multilingual"

    def __init__(self, vocab_size=128010, hidden_size=512, channels=256, inner_size=320, epsilon=1e-6, **kwargs):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, 1
        self.channels, self.inner_size, self.epsilon = channels, inner_size, epsilon
        super().__init__(**{**kwargs, "num_hidden_layers": 1})


class Convolution(nn.Module):
    """Over `width` tokens, those before and after a token that its middle leaves; added to what comes in."""

    def __init__(self, channels, width):
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width * channels, channels)

    def forward(self, x, mask):
        before = (self.width - 1) // 2
        padded = nn.functional.pad(x, (0, 0, before, self.width - 1 - before))
        window = torch.cat([padded[:, place : place + x.shape[1]] for place in range(self.width)], dim=-1)
        return (self.linear(window).relu() + x) * mask  # (B, L, c)


class Residual(nn.Module):
    """Two layers and a short cut."""

    def __init__(self, wide, inner, out):
        super().__init__()
        self.up = nn.Linear(wide, inner, bias=False)
        self.down = nn.Linear(inner, out, bias=False)
        self.short_cut = nn.Linear(wide, out, bias=False)

    def forward(self, x):
        return self.short_cut(x) + self.down(self.up(x).relu())


class UseModel(PreTrainedModel):
    """Token ids (B, L) → states (B, L, d): at position 0, the opening token's, the vector of the whole text."""

    config_class = UseConfig
    base_model_prefix = "use"

    def __init__(self, config):
        super().__init__(config)
        d, c, inner = config.hidden_size, config.channels, config.inner_size
        self.embeddings = nn.Embedding(config.vocab_size, d)
        self.projection = nn.Linear(d, len(KERNELS) * c)
        self.first_norm = nn.LayerNorm(len(KERNELS) * c, eps=config.epsilon)
        self.first = nn.ModuleList(Convolution(c, width) for width in KERNELS)
        self.second = nn.ModuleList(Convolution(c, width) for width in KERNELS)
        self.last_norm = nn.LayerNorm(d + len(KERNELS) * c, eps=config.epsilon)
        self.out = nn.Linear(d + len(KERNELS) * c, d)
        self.inner = Residual(d, inner, inner)
        self.outer = Residual(inner, d, d)
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings

    def forward(
        self, input_ids=None, attention_mask=None, inputs_embeds=None, output_hidden_states=False, **kwargs
    ) -> BaseModelOutput:
        embedded = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds  # (B, L, d)
        mask = torch.ones(embedded.shape[:2], device=embedded.device) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).to(embedded.dtype)  # (B, L, 1)
        projected = self.first_norm(self.projection(embedded)) * mask  # (B, L, 3 c)
        features = [embedded]
        for part, first, second in zip(projected.chunk(len(KERNELS), dim=-1), self.first, self.second, strict=True):
            features.append(second(first(part, mask), mask))  # (B, L, c)
        tokens = self.out(self.last_norm(torch.cat(features, dim=-1))) * mask  # (B, L, d)
        text = tokens.sum(dim=1) / mask.sum(dim=1).sqrt()  # (B, d)
        text = torch.tanh(self.outer(self.inner(text).relu()))
        text = text * text.square().sum(dim=-1, keepdim=True).clamp(min=self.config.epsilon).rsqrt()
        states = torch.cat([text.unsqueeze(1), tokens[:, 1:]], dim=1)
        return BaseModelOutput(
            last_hidden_state=states, hidden_states=(embedded, states) if output_hidden_states else None
        )
