"""Llama and models with the same layout, such as SmolLM2."""

from prunepeft_ray.backbones.family import FAMILIES, Family

LLAMA = FAMILIES.register(
    "llama",
    Family(
        name="Llama",
        layers="model.layers",
        query="self_attn.q_proj",
        value="self_attn.v_proj",
        attention="self_attn",
        attention_output="self_attn.o_proj",
        ffn_output="mlp.down_proj",
        ffn="mlp",
        head="score",
        classifier="score",
        head_per_token=True,
    ),
)
