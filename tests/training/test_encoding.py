import numpy as np
import pytest
import torch
from training_toys import toy_split, toy_task

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.tasks import Split, TaskData
from prunepeft_ray.training import cut_line, encode_task
from prunepeft_ray.training.encoding import encode, epoch_batches

CPU = torch.device("cpu")
LENGTHS = np.random.default_rng(0).integers(3, 60, 1003)


@pytest.mark.parametrize(("examples", "batch_size"), [(1003, 16), (1003, 5), (7, 16), (16, 16), (1, 1)])
def test_an_epoch_has_every_example_exactly_once(examples, batch_size):
    batches = epoch_batches(LENGTHS[:examples], batch_size, seed=3, epoch=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(examples))
    sizes = sorted((len(batch) for batch in batches), reverse=True)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sizes[-1] == (examples % batch_size or batch_size)


def as_lists(batches):
    return [batch.tolist() for batch in batches]


def test_the_order_is_the_same_for_a_seed_and_new_in_every_epoch():
    first = as_lists(epoch_batches(LENGTHS, 16, seed=3, epoch=1))
    assert as_lists(epoch_batches(LENGTHS, 16, seed=3, epoch=1)) == first
    for other in (
        epoch_batches(LENGTHS, 16, seed=3, epoch=2),
        epoch_batches(LENGTHS, 16, seed=4, epoch=1),
    ):
        assert as_lists(other) != first
        # not the same batches in another order either
        assert {tuple(sorted(batch)) for batch in as_lists(other)} != {tuple(sorted(batch)) for batch in first}


def test_batches_of_similar_length_need_much_less_padding_than_random_ones():
    def padding(batches):
        return sum(len(b) * LENGTHS[b].max() - LENGTHS[b].sum() for b in batches)

    random = np.split(np.random.default_rng(1).permutation(len(LENGTHS)), range(16, len(LENGTHS), 16))
    assert padding(epoch_batches(LENGTHS, 16, seed=3, epoch=1)) < 0.2 * padding(random)


def test_batches_are_not_sorted_by_length():
    means = [LENGTHS[b].mean() for b in epoch_batches(LENGTHS, 16, seed=3, epoch=1)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


TEXTS = ["the film", "the film is very good and long", "no"]


def split_of(texts, texts2=None, labels=(1, 0, 1)):
    return Split(list(texts), texts2, np.array(labels, dtype=np.int64))


def test_a_batch_is_padded_to_its_own_longest_example(backbone):
    encoded = encode(split_of(TEXTS), backbone, 32)
    assert encoded.lengths.tolist() == [4, 9, 3]
    assert encoded.input_ids.dtype == torch.int32
    inputs, labels = encoded.batch(np.array([2, 0]), CPU)
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert inputs["input_ids"].dtype == inputs["attention_mask"].dtype == torch.long
    assert labels.tolist() == [1, 1]
    tokenizer = backbone.tokenizer
    assert inputs["input_ids"].tolist() == tokenizer([TEXTS[2], TEXTS[0]], padding=True)["input_ids"]


def test_texts_are_cut_at_the_asked_length_and_at_the_models_limit(backbone):
    long = split_of(["film " * 200, "no", "no"])
    assert encode(long, backbone, 8).lengths.tolist() == [8, 3, 3]
    assert encode(long, backbone, 1000).lengths.tolist() == [64, 3, 3]
    assert encode(long, backbone, 8).input_ids.shape == (3, 8)


def test_texts_are_cut_at_the_models_positions_when_its_tokenizer_knows_no_limit(tiny_models, monkeypatch):
    long = split_of(["film " * 200, "no", "no"])
    for family, positions in (("bert", 80), ("roberta", 78)):
        backbone = load_backbone(tiny_models[family])
        monkeypatch.setattr(backbone.tokenizer, "model_max_length", 10**30)
        encoded = encode(long, backbone, 1000)
        assert encoded.lengths[0] == positions
        inputs, _ = encoded.batch(np.array([0, 1]), CPU)
        assert backbone.model(**inputs).logits.shape == (2, 2)


def test_pairs_have_token_types_for_a_model_that_tells_them_apart(backbone, tiny_roberta):
    pairs = split_of(TEXTS, ["a", "b c", "d"])
    inputs, _ = encode(pairs, backbone, 32).batch(np.array([0, 2]), CPU)
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert inputs["token_type_ids"].dtype == torch.long
    assert encode(split_of(TEXTS), backbone, 32).token_types is None
    assert encode(pairs, load_backbone(tiny_roberta), 32).token_types is None


def test_pairs_are_cut_too(backbone):
    pairs = split_of(["film " * 50, "no", "no"], ["good " * 50, "a", "b"])
    encoded = encode(pairs, backbone, 16)
    assert encoded.lengths.tolist() == [16, 5, 5]
    assert set(encoded.token_types[0].tolist()) == {0, 1}


def test_texts_that_are_cut_are_counted_in_every_split_and_at_the_length_that_cuts(backbone):
    exact = split_of(["film film", "film film film", "no"])
    train, test = split_of(["film " * 200, "film " * 30, "no"]), split_of(["film " * 200, "no", "no"])
    data = TaskData("t", train, exact, exact, ("a", "b"), ("accuracy",), "accuracy", {"mismatched": test})
    told = {length: cut_line(encode_task(data, backbone, length), backbone, length) for length in (5, 1000)}
    assert told[5] == (
        "texts of more than 5 tokens (training.max_length) are truncated: 2 of 3 in train, 1 of 3 in test_mismatched"
    )
    assert told[1000] == (
        "texts of more than 64 tokens (the model's maximum) are truncated: 1 of 3 in train, 1 of 3 in test_mismatched"
    )
    short = TaskData("t", exact, exact, exact, ("a", "b"), ("accuracy",), "accuracy")
    assert cut_line(encode_task(short, backbone, 5), backbone, 5) is None


def test_padding_is_on_the_right_for_a_decoder_without_a_padding_token(tiny_llama):
    encoded = encode(split_of(TEXTS), load_backbone(tiny_llama), 32)
    inputs, _ = encoded.batch(np.array([0, 1]), CPU)
    assert inputs["attention_mask"].tolist() == [[1] * 2 + [0] * 5, [1] * 7]


def test_taking_examples_keeps_inputs_and_labels_together(backbone):
    encoded = encode(toy_split(20, 0, pairs=True), backbone, 32)
    taken = encoded.take(np.array([5, 2]))
    for one, other in zip(taken.batch(np.array([0, 1]), CPU), encoded.batch(np.array([5, 2]), CPU), strict=True):
        if isinstance(one, dict):
            assert {k: v.tolist() for k, v in one.items()} == {k: v.tolist() for k, v in other.items()}
        else:
            assert one.tolist() == other.tolist()


def rows(split):
    return {tuple(row.tolist()) for row in split.input_ids}


def test_a_subset_is_stratified_and_the_same_in_every_job(task):
    small, none = task.subset(24, 0.0)
    assert len(small) == 24
    assert len(none) == 0
    share = task.train.labels.float().mean()
    assert abs(small.labels.float().mean() - share) <= 1 / 24
    assert rows(task.subset(24, 0.0)[0]) == rows(small)
    assert rows(small) <= rows(task.subset(48, 0.0)[0])


def test_a_held_out_part_is_stratified_and_not_trained_on(task):
    subset, _ = task.subset(40, 0.0)
    kept, held = task.subset(40, 0.3)
    assert (len(kept), len(held)) == (28, 12)
    assert rows(kept) | rows(held) == rows(subset)
    assert not rows(kept) & rows(held)
    share = float(subset.labels.float().mean())
    assert abs(float(held.labels.float().mean()) - share) <= 1 / 12
    assert rows(task.subset(40, 0.3)[1]) == rows(held)


def test_without_a_size_the_subset_is_the_whole_split_in_order(task):
    whole, _ = task.subset(None, 0.0)
    assert torch.equal(whole.input_ids, task.train.input_ids)
    assert len(task.subset(10_000, 0.0)[0]) == len(task.train)


def test_the_same_texts_give_the_same_subset_under_any_name(backbone, task):
    again = encode_task(toy_task(), backbone, 32)
    assert torch.equal(again.subset(20, 0.0)[0].input_ids, task.subset(20, 0.0)[0].input_ids)
