import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.architecture import KINDS, Partition, Slot, block_sizes, partition_of
from prunepeft_ray.errors import InputError


@pytest.mark.parametrize(
    ("layers", "sizes"),
    [(24, (4, 8, 8, 4)), (12, (2, 4, 4, 2)), (6, (1, 2, 2, 1)), (4, (1, 1, 1, 1)), (30, (5, 10, 10, 5))],
)
def test_spindle_table(layers, sizes):
    assert block_sizes(layers) == sizes


@pytest.mark.parametrize(
    ("layers", "sizes"), [(24, (5, 7, 7, 5)), (12, (3, 3, 3, 3)), (6, (2, 1, 2, 1)), (32, (7, 9, 9, 7))]
)
def test_reference_table(layers, sizes):
    assert block_sizes(layers, "reference") == sizes


@pytest.mark.parametrize("layers", range(4, 201))
def test_spindle_is_sound_at_every_depth(layers):
    sizes = block_sizes(layers)
    assert sum(sizes) == layers
    assert max(sizes[0], sizes[3]) <= min(sizes[1], sizes[2])
    assert all(abs(size - layers * share) <= 1 for size, share in zip(sizes, (1 / 6, 1 / 3, 1 / 3, 1 / 6), strict=True))
    assert min(sizes) >= 1


@pytest.mark.parametrize("layers", range(4, 201))
def test_reference_edges_are_exact_at_every_depth(layers):
    # whole numbers: layer l is beyond an edge of n tenths if 10 l > n (L - 1)
    starts = [sum(10 * layer <= tenths * (layers - 1) for layer in range(layers)) for tenths in (2, 5, 8)]
    ends = [*starts, layers]
    assert block_sizes(layers, "reference") == tuple(b - a for a, b in zip([0, *starts], ends, strict=True))


def test_own_edges_and_no_blocks():
    assert block_sizes(12, (0.25, 0.5, 0.75)) == (3, 3, 3, 3)
    assert block_sizes(12, (0.5,)) == (6, 6)
    assert block_sizes(12, "none") == (12,)
    assert block_sizes(2, "none") == (2,)


@pytest.mark.parametrize(
    ("layers", "blocks", "message"),
    [
        (3, "spindle", "too shallow"),
        (3, "reference", "too shallow"),
        (12, "thirds", "unknown 'thirds'"),
        (12, (0.5, 0.5), "must increase"),
        (12, (0.8, 0.2), "must increase"),
        (12, (0.0, 0.5), "must increase"),
        (12, (0.5, 1.0), "must increase"),
        (12, (0.5, 0.51), "would be empty"),
        (12, (0.01, 0.5), "would be empty"),
    ],
)
def test_impossible_blocks_are_refused(layers, blocks, message):
    with pytest.raises(InputError, match=message):
        block_sizes(layers, blocks)


@given(st.integers(4, 80), st.sampled_from(("spindle", "reference", "none", (0.25, 0.5, 0.75))))
def test_partition_of_agrees_with_the_sizes(layers, blocks):
    slots = [Slot(layer, kind) for layer in range(layers) for kind in KINDS]
    partitions = partition_of(slots, layers, blocks)
    sizes = block_sizes(layers, blocks)
    for kind in KINDS:
        of_kind = [partitions[Slot(layer, kind)] for layer in range(layers)]
        assert of_kind == sorted(of_kind)
        assert tuple(of_kind.count(Partition(block, kind)) for block in range(len(sizes))) == sizes


def test_partition_text():
    assert str(Partition(2, "SA")) == "2.SA"
    assert partition_of([Slot(5, "SA")], 6) == {Slot(5, "SA"): Partition(3, "SA")}
