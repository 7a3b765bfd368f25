"""The model: importing it registers llink's classes with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor

from ..configuration_llink import LlinkConfig
from .modeling_llink import LlinkForCausalLM
from .pipeline import LlinkPipeline
from .processing_llink import LlinkProcessor

AutoConfig.register("llink", LlinkConfig)
AutoModel.register(LlinkConfig, LlinkForCausalLM)
AutoModelForCausalLM.register(LlinkConfig, LlinkForCausalLM)
AutoModelForMultimodalLM.register(LlinkConfig, LlinkForCausalLM)
AutoProcessor.register(LlinkConfig, LlinkProcessor)

__all__ = ["LlinkConfig", "LlinkForCausalLM", "LlinkPipeline", "LlinkProcessor"]
