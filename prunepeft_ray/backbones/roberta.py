"""RoBERTa."""

from prunepeft_ray.backbones.family import FAMILIES, Family

ROBERTA = FAMILIES.register(
    "roberta",
    Family(
        name="RoBERTa",
        layers="roberta.encoder.layer",
        query="attention.self.query",
        value="attention.self.value",
        attention="attention.self",
        attention_output="attention.output.dropout",
        ffn_output="output.dropout",
        ffn="output",
        head="classifier",
        classifier="classifier.out_proj",
        reserved_positions=2,
    ),
)
