"""BERT and models with the same layout, such as MiniLM."""

from prunepeft_ray.backbones.family import FAMILIES, Family

BERT = FAMILIES.register(
    "bert",
    Family(
        name="BERT",
        layers="bert.encoder.layer",
        query="attention.self.query",
        value="attention.self.value",
        attention="attention.self",
        attention_output="attention.output.dropout",
        ffn_output="output.dropout",
        ffn="output",
        head="classifier",
        classifier="classifier",
    ),
)
