"""The model: importing it registers llink's classes with the library's Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from ..configuration_llink import LlinkConfig
from .modeling_llink import LlinkForCausalLM
from .pipeline import TASK, LlinkPipeline
from .processing_llink import LlinkProcessor

AutoConfig.register("llink", LlinkConfig)
AutoModel.register(LlinkConfig, LlinkForCausalLM)
AutoModelForCausalLM.register(LlinkConfig, LlinkForCausalLM)
AutoModelForMultimodalLM.register(LlinkConfig, LlinkForCausalLM)
AutoProcessor.register(LlinkConfig, LlinkProcessor)
PIPELINE_REGISTRY.register_pipeline(TASK, LlinkPipeline, pt_model=AutoModelForCausalLM)

__all__ = ["LlinkConfig", "LlinkForCausalLM", "LlinkPipeline", "LlinkProcessor"]
