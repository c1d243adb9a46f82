"""Cached outputs of the layers below the lowest prompt: the same hidden states for less work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
import transformers

from ptv2_cli.backbones.families import FAMILIES, is_silent, set_dropout
from ptv2_cli.backbones.frozen_cache import activation_store
from ptv2_cli.backbones.frozen_cache.activation_store import ForEpoch, InMemory, OnDisk
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates, check_lower
from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.layer_split import LayerSplit
from ptv2_cli.backbones.sites import InputVectors, Prompts
from ptv2_cli.errors import BackboneError
from ptv2_cli.inputs.batch import Batch, collate, join_batches
from ptv2_cli.inputs.features import Feature

LENGTHS = (9, 5, 2)
ABLE = [name for name, family in FAMILIES.items() if family.parts]


def features(lengths=LENGTHS, seed: int = 0) -> list[Feature]:
    source = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(5, 40, (length,), generator=source).tolist() for length in lengths]
    return [Feature(row=row, input_ids=ids) for row, ids in enumerate(drawn)]


def batch_of(rows: list[Feature]) -> Batch:
    return collate(rows, 0, "sequence")


def left(batch: Batch) -> Batch:
    """The same texts with their padding before them."""
    counts = batch.attention_mask.sum(dim=1).tolist()

    def moved(tensor):
        rows = zip(tensor, counts, strict=True)
        return torch.stack([row.roll(len(row) - count) for row, count in rows])

    return replace(
        batch, input_ids=moved(batch.input_ids), attention_mask=moved(batch.attention_mask)
    )


def load(folder, **section):
    """A backbone without a decoder."""
    backbone = tiny.load(folder, **section)
    backbone.drop_decoder()
    return backbone


def method_of(backbone, layers: str, length: int = 3, seed: int = 0, **options):
    options = {"init": {"normal": 1.0}, **options}
    return tiny.make_method(backbone, "ptuning_v2", length, seed, layers=layers, **options)


def assert_alike(found, expected, batch: Batch, **tolerance) -> None:
    real = batch.attention_mask.bool()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    torch.testing.assert_close(
        found[real], expected[real], **{"atol": 1e-4, "rtol": 1e-4, **tolerance}
    )


def gradient(hidden, batch: Batch, method):
    """Of a random projection of the text's own states."""
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    (hidden * weights * batch.attention_mask[..., None]).sum().backward()
    found = method.source.prompt.grad
    method.source.prompt.grad = None
    return found


# Every family


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("lowest", [2, 3])
@pytest.mark.parametrize("family", ABLE)
def test_states_and_gradients_are_those_of_the_plain_pass(family, lowest, side, folder_of) -> None:
    backbone = load(folder_of(family))
    method = method_of(backbone, f"{lowest}-3")
    batch = batch_of(features())
    batch = left(batch) if side == "left" else batch
    plain = backbone(batch, method())
    wanted = gradient(plain, batch, method)
    assert wanted.abs().sum() > 0

    lower = LowerStates("memory")
    for _ in ("computed", "kept"):
        found = lower.hidden(backbone, batch, method())
        assert_alike(found, plain, batch)
        torch.testing.assert_close(gradient(found, batch, method), wanted, atol=1e-3, rtol=1e-3)
    assert lower.computed == 3
    # No hooks and no counted calls remain.
    torch.testing.assert_close(backbone(batch, method()), plain, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ptuning_v2", {"softmax": "separate"}),
        ("ptuning_v2", {"gates": "apt"}),
        ("prefix_tuning_plus", {}),
    ],
)
@pytest.mark.parametrize("family", ["bert", "llama", "albert"])
def test_what_else_attention_does_in_upper_layers(family, name, options, folder_of) -> None:
    backbone, batch = load(folder_of(family)), left(batch_of(features()))
    method = tiny.make_method(backbone, name, 3, layers="last:1", **options)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_()
        plain, lower = backbone(batch, method()), LowerStates("memory")
        for _ in ("computed", "kept"):
            assert_alike(lower.hidden(backbone, batch, method()), plain, batch)
        assert lower.computed == 3
        real = batch.attention_mask.bool()
        assert (backbone(batch) - plain)[real].abs().max() > 0.01


@pytest.mark.parametrize("family", ABLE)
def test_rows_are_found_in_other_batches_and_at_other_offsets(family, folder_of) -> None:
    backbone = load(folder_of(family)).eval()
    rows = features()
    lower = LowerStates("memory")
    for length in (2, 5):
        method = method_of(backbone, "last:1", length)
        for chosen in ([0, 1, 2], [2, 1], [1]):  # other neighbours, another padded length
            batch = batch_of([rows[at] for at in chosen])
            expected = backbone(batch, method())
            assert_alike(lower.hidden(backbone, batch, method()), expected, batch)
    assert lower.computed == 3 * 2


@pytest.mark.parametrize("family", ABLE)
def test_lanes_of_several_depths_share_a_batch(family, folder_of) -> None:
    backbone = load(folder_of(family))
    offset = "shift" if backbone.takes_offsets else "keep"
    methods = [
        method_of(backbone, "2-3", 2, seed=1, position_offset=offset),
        method_of(backbone, "last:1", 4, seed=2, position_offset=offset),
        tiny.make_method(backbone, "head_only", None),
    ]
    batches = [batch_of(features()), batch_of(features()), batch_of(features((7,), seed=3))]
    trainer, counts = join_batches(batches), [3, 3, 1]

    def prompts() -> Prompts:
        return combined([method() for method in methods], counts)

    def gradients(hidden):
        weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
        (hidden * weights * trainer.attention_mask[..., None]).sum().backward()
        found = [method.source.prompt.grad for method in methods[:2]]
        for method in methods[:2]:
            method.source.prompt.grad = None
        return found

    plain = backbone(trainer, prompts())
    wanted = gradients(plain)
    lower = LowerStates("epoch", takers=3)
    for _ in ("computed", "kept"):
        found = lower.hidden(backbone, trainer, prompts())
        assert_alike(found, plain, trainer)
        for one, other in zip(gradients(found), wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    # The first two lanes hold the same rows: once each, unless their positions differ.
    assert lower.computed == (7 if offset == "shift" else 4)


@pytest.mark.parametrize("decodes", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_without_a_prompt_the_last_states_are_kept(family, decodes, folder_of) -> None:
    backbone = tiny.load(folder_of(family))
    if not decodes:
        backbone.drop_decoder()
    batch = batch_of(features())
    with torch.no_grad():
        plain = backbone(batch)
    lower = LowerStates("memory")
    for _ in ("computed", "kept"):
        found = lower.hidden(backbone, batch, Prompts())
        assert not found.requires_grad
        if backbone.decodes:
            torch.testing.assert_close(found, plain)
        else:
            assert_alike(found, plain, batch)
    assert lower.computed == 3


# Which models


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_is_said_of_each_family_is_what_the_check_finds(family, folder_of) -> None:
    backbone = load(folder_of(family))
    if FAMILIES[family].parts:
        check_lower(backbone, "some/model")
        assert backbone.training
        return
    with pytest.raises(
        BackboneError, match=rf"train\.cache: {family} layers pass on more than"
    ) as e:
        check_lower(backbone, "some/model")
    assert "those of some/model cannot start" in str(e.value)
    assert "remove train.cache" in str(e.value)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - set(ABLE)))
def test_a_model_that_cannot_is_refused_or_passed_by(family, folder_of) -> None:
    backbone = load(folder_of(family))
    method, batch = method_of(backbone, "last:1"), batch_of(features())
    with pytest.raises(BackboneError, match=r"train\.cache"):
        LowerStates("memory").hidden(backbone, batch, method())
    lower = LowerStates("epoch", takers=2)
    expected = backbone(batch, method())
    for _ in range(2):
        torch.testing.assert_close(
            lower.hidden(backbone, batch, method()), expected, atol=0, rtol=0
        )


@pytest.mark.parametrize("lowest", [2, 3, 4])
def test_albert_with_two_modules_of_two_calls(lowest, tmp_path) -> None:
    folder = tiny.save_model(tmp_path / "m", "albert", num_hidden_layers=4, num_hidden_groups=2)
    backbone = load(folder)
    method, batch = method_of(backbone, f"{lowest}-4"), batch_of(features())
    lower = LowerStates("memory")
    for _ in range(2):
        found = lower.hidden(backbone, batch, method())
        assert_alike(found, backbone(batch, method()), batch)


# What is computed, and when it is not kept


def test_each_row_is_computed_once(backbone_of) -> None:
    backbone = backbone_of("bert")
    rows = features((9, 5, 2, 7))
    method = method_of(backbone, "last:1")
    lower = LowerStates("memory")
    lower.hidden(backbone, batch_of(rows[:2]), method())
    assert lower.computed == 2
    lower.hidden(backbone, batch_of(rows), method())  # the missing two alone
    assert lower.computed == 4
    again = [replace(row, label=1) for row in rows]  # the same text, in another object
    lower.hidden(backbone, batch_of([*again, *rows]), method())
    assert lower.computed == 4
    lower.hidden(backbone, batch_of(rows), method_of(backbone, "last:2")())  # another depth
    assert lower.computed == 8
    other = [replace(row, token_type_ids=[1] * len(row.input_ids)) for row in rows]
    found = lower.hidden(backbone, batch_of(other), method())
    assert_alike(found, backbone(batch_of(other), method()), batch_of(other))
    assert lower.computed == 12


def test_the_inputs_of_a_question_are_rows_of_their_own(backbone_of) -> None:
    backbone = backbone_of("bert")
    parts = features((4, 6, 3))
    questions = [
        replace(parts[1], choices=(parts[0], parts[1])),
        replace(parts[1], choices=(parts[1], parts[2])),
    ]
    batch = collate(questions, 0, "choice")
    assert batch.features == tuple(questions)
    method = method_of(backbone, "last:1")
    lower = LowerStates("memory")
    for _ in range(2):
        assert_alike(lower.hidden(backbone, batch, method()), backbone(batch, method()), batch)
    assert lower.computed == 3


def test_batches_remember_their_features() -> None:
    one, other = batch_of(features()), batch_of(features((4,)))
    assert join_batches([one, other]).features == (*one.features, *other.features)
    assert one.to("cpu").features == one.features
    assert join_batches([one, replace(other, features=None)]).features is None


def test_an_epoch_keeps_a_row_until_the_last_has_asked(backbone_of) -> None:
    backbone = backbone_of("bert")
    batch = batch_of(features())
    prompts = method_of(backbone, "last:1")()
    lower = LowerStates("epoch", takers=3)
    for computed in (3, 3, 3, 6):  # the fourth is the next epoch's first
        lower.hidden(backbone, batch, prompts)
        assert lower.computed == computed
    lower.close()
    lower.takers = 2  # a lane has ended
    for computed in (9, 9, 12, 12):
        lower.hidden(backbone, batch, prompts)
        assert lower.computed == computed
    twice = join_batches([batch, batch])  # both ask in one batch: nothing is left to keep
    lower.hidden(backbone, twice, prompts)
    assert (lower.computed, lower._store.size) == (15, 0)


def test_one_taker_of_an_epoch_has_the_plain_pass(backbone_of, monkeypatch) -> None:
    backbone = backbone_of("bert")
    batch, prompts = batch_of(features()), method_of(backbone, "last:1")()
    monkeypatch.setattr(LayerSplit, "lower", None)
    lower = LowerStates("epoch")
    expected = backbone(batch, prompts)
    for _ in range(2):
        torch.testing.assert_close(lower.hidden(backbone, batch, prompts), expected, atol=0, rtol=0)
    assert lower.computed == 6


def test_prompts_below_all_layers_leave_nothing_to_keep(backbone_of) -> None:
    backbone = backbone_of("bert")
    batch = batch_of(features())
    vectors = InputVectors(torch.randn(2, 32), 1)
    for prompts in (method_of(backbone, "1,3")(), Prompts(inputs=vectors)):
        lower = LowerStates("memory")
        expected = backbone(batch, prompts)
        torch.testing.assert_close(lower.hidden(backbone, batch, prompts), expected, atol=0, rtol=0)
        assert lower.computed == 0


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "attention_probs_dropout_prob"),
        ("bert", "hidden_dropout_prob"),
        ("gpt2", "attn_pdrop"),
        ("llama", "attention_dropout"),
        ("bart", "activation_dropout"),
        ("bart", "encoder_layerdrop"),
    ],
)
def test_one_dropout_of_any_kind_is_enough_not_to_keep(family: str, name: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    set_dropout(config, "off")
    assert is_silent(config)
    assert getattr(config, name) == 0.0
    setattr(config, name, 0.1)
    assert not is_silent(config)


@pytest.mark.parametrize("where", ["hidden", "attention"])
def test_what_dropout_changes_is_not_kept_but_evaluations_are(where, folder_of, tmp_path) -> None:
    if where == "hidden":
        backbone = load(folder_of("bert"), dropout=0.3)
    else:
        folder = tiny.save_model(tmp_path, "bert", attention_probs_dropout_prob=0.3)
        backbone = load(folder, dropout=0.0)
    batch, prompts = batch_of(features()), method_of(backbone, "last:1")()
    lower = LowerStates("memory")
    with torch.random.fork_rng():
        found = [lower.hidden(backbone.train(), batch, prompts) for _ in range(2)]
    assert not torch.equal(*found)
    assert lower.computed == 6
    for _ in range(2):
        found = lower.hidden(backbone.eval(), batch, prompts)
        assert_alike(found, backbone(batch, prompts), batch)
    assert lower.computed == 9


def test_a_backbone_that_trains_keeps_its_graph(folder_of) -> None:
    backbone = load(folder_of("bert")).requires_grad_(True)
    lower = LowerStates("memory")
    batch = batch_of(features())
    assert lower.hidden(backbone, batch, Prompts()).requires_grad
    assert lower.hidden(backbone, replace(batch, features=None), Prompts()).requires_grad


def test_what_an_evaluation_keeps_serves_training(folder_of) -> None:
    backbone = load(folder_of("bert"))
    method, batch = method_of(backbone, "last:1"), batch_of(features())
    lower = LowerStates("memory")
    with torch.inference_mode():
        lower.hidden(backbone.eval(), batch_of(features()), method())
    found = lower.hidden(backbone.train(), batch, method())
    assert gradient(found, batch, method).abs().sum() > 0
    assert lower.computed == 3


# How


def test_there_is_no_graph_below(tmp_path, monkeypatch) -> None:
    """With cached lower layers, three layers save as much for backward as six."""
    saved = {}
    seen = []
    upper = LayerSplit.upper

    def spying(self, backbone, batch, prompts, depth, states):
        seen.append(states.requires_grad)
        return upper(self, backbone, batch, prompts, depth, states)

    monkeypatch.setattr(LayerSplit, "upper", spying)
    for layers in (3, 6):
        folder = tiny.save_model(tmp_path / str(layers), "bert", num_hidden_layers=layers)
        backbone = load(folder)
        method, batch = method_of(backbone, "last:1"), batch_of(features())
        lower, sizes = LowerStates("memory"), []

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            lower.hidden(backbone, batch, method())
        saved[layers] = sizes
    assert saved[3] == saved[6]
    assert len(saved[3]) > 5
    assert len(seen) >= 2
    assert not any(seen)


@pytest.mark.parametrize("family", ["bert", "gpt2", "deberta-v2", "llama"])
def test_with_recomputed_activations(family, folder_of) -> None:
    backbone = load(folder_of(family))
    method, batch = method_of(backbone, "2-3"), batch_of(features())
    wanted = gradient(backbone(batch, method()), batch, method)
    backbone.checkpoint_gradients()
    lower = LowerStates("memory")
    for _ in range(2):
        found = gradient(lower.hidden(backbone, batch, method()), batch, method)
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["bert", "llama", "modernbert", "albert"])
@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_mixed_precision_keeps_its_types(family, keep, folder_of) -> None:
    backbone = load(folder_of(family))
    method, batch = method_of(backbone, "last:1"), batch_of(features())
    lower = LowerStates(keep)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = backbone(batch, method())
        for _ in range(2):
            assert_alike(lower.hidden(backbone, batch, method()), plain, batch, atol=0.1, rtol=0.1)
    held = load(folder_of(family), dtype="bf16")
    lower = LowerStates(keep)
    plain = held(batch, method())
    for _ in range(2):
        assert_alike(lower.hidden(held, batch, method()), plain, batch, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_memory_and_disk_give_the_same_bits_and_leave_no_file(dtype, folder_of, tmp_path) -> None:
    backbone = load(folder_of("bert"), dtype=dtype).eval()
    rows = features((9, 5, 2, 7))
    prompts = method_of(backbone, "last:1")()
    memory, disk = LowerStates("memory"), LowerStates("disk", tmp_path / "new")
    for chosen in (rows[:3], rows[1:], rows):
        batch = batch_of(chosen)
        one = memory.hidden(backbone, batch, prompts)
        assert torch.equal(one, disk.hidden(backbone, batch, prompts))
    assert memory.computed == disk.computed == 4
    assert list((tmp_path / "new").iterdir()) == []  # while it is open: there is no name to remove
    disk.close()


def test_a_failed_pass_leaves_the_model_as_it_was(folder_of, monkeypatch) -> None:
    backbone = load(folder_of("bert")).eval()
    batch, prompts = batch_of(features()), method_of(backbone, "last:1")()
    expected = backbone(batch, prompts)
    lower = LowerStates("memory")
    lower.hidden(backbone, batch, prompts)
    with monkeypatch.context() as patch:
        patch.setattr(type(backbone.injection), "take", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lower.hidden(backbone, batch, prompts)
    assert not any("forward" in vars(module) for module in backbone.model.modules())
    torch.testing.assert_close(backbone(batch, prompts), expected, atol=0, rtol=0)


@pytest.mark.parametrize("kind", [InMemory, OnDisk])
def test_what_finds_no_room_is_not_kept(kind, monkeypatch, tmp_path) -> None:
    free = [activation_store.RESERVE + 1000]
    monkeypatch.setattr(activation_store, "free_memory", lambda: free[0])
    monkeypatch.setattr(activation_store, "free_disk", lambda folder: free[0])
    monkeypatch.setattr(activation_store, "LOOK_EVERY", 80)  # two rows of 40 bytes
    corpus = kind(tmp_path) if kind is OnDisk else kind()
    states = torch.arange(10.0).view(5, 2)
    corpus.put("a", states, 1)
    free[0] = activation_store.RESERVE
    corpus.put("b", states, 1)  # nobody looks yet
    corpus.put("c", states, 1)
    assert torch.equal(corpus.take("a", 1), states)
    assert corpus.take("b", 1) is not None
    assert corpus.take("c", 1) is None
    free[0] += 1000
    corpus.put("d", states, 1)
    corpus.put("c", states, 1)
    assert corpus.take("c", 1) is not None


def test_an_epoch_is_bounded_and_the_oldest_go_first() -> None:
    corpus = ForEpoch(limit=100)
    for key in "abc":
        corpus.put(key, torch.zeros(5, 2), left=2)  # 40 bytes each
    assert corpus.size == 80
    assert corpus.take("a", 1) is None
    assert corpus.take("b", 1) is not None
    assert corpus.take("b", 1) is not None
    assert (corpus.take("b", 1), corpus.size) == (None, 40)
    corpus.put("d", torch.zeros(5, 2), left=0)
    assert corpus.take("d", 1) is None
