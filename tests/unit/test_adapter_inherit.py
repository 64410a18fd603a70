from collections import defaultdict

import pytest
import torch

from neuromas.adapters.inherit import inherit
from neuromas.adapters.source import AdapterSource, Roles, TrainedAdapter
from neuromas.errors import AdapterError

Q = "model.layers.0.self_attn.q_proj"
ROLES = defaultdict(lambda: Roles(updates=frozenset({f"{Q}/B", "theta"}), fixed=frozenset({"projection"})))


def trained(*names: str, shift: float = 0.0) -> dict[str, torch.Tensor]:
    state = {}
    for k, name in enumerate(names):
        state[f"{name}/{Q}/A"] = torch.arange(6.0).reshape(2, 3) + 10 * k + shift
        state[f"{name}/{Q}/B"] = torch.arange(8.0).reshape(4, 2) - 10 * k - shift
    return state


def vectors(*names: str, seed: int = 5) -> dict[str, torch.Tensor]:
    state = {}
    for k, name in enumerate(names):
        state[f"{name}/theta"] = torch.arange(4.0) + k
        state[f"{name}/projection"] = torch.tensor([seed, 100, 4])
    return state


FRESH = {f"c/{Q}/A": torch.ones(2, 3), f"c/{Q}/B": torch.zeros(4, 2)}


def source(kind, *adapters, module=0, noise=0.0):
    return AdapterSource(kind, tuple(TrainedAdapter(module, adapter) for adapter in adapters), noise)


def test_old_adapters_are_carried_bit_for_bit_also_under_a_new_name():
    state = inherit([trained("a", "b")], {"a": source("keep", "a"), "left-b": source("keep", "b")}, FRESH, ROLES, 0)
    assert set(state) == {f"{name}/{Q}/{letter}" for name in ("a", "left-b") for letter in "AB"}
    assert torch.equal(state[f"left-b/{Q}/B"], trained("a", "b")[f"b/{Q}/B"])


def test_adapters_of_further_modules_come_from_their_own_state():
    modules = [trained("a"), trained("a", shift=100.0)]
    state = inherit(modules, {"x": source("keep", "a", module=1)}, FRESH, ROLES, 0)
    assert state[f"x/{Q}/A"][0].tolist() == [100.0, 101.0, 102.0]


def test_fresh_is_the_start_of_the_new_model():
    state = inherit([trained("a")], {"c": source("fresh")}, FRESH, ROLES, 0)
    assert torch.equal(state[f"c/{Q}/A"], torch.ones(2, 3))
    assert not state[f"c/{Q}/B"].any()


def test_zero_keeps_the_learned_input_space_and_drops_the_update():
    state = inherit([trained("a")], {"c": source("zero", "a")}, FRESH, ROLES, 0)
    assert torch.equal(state[f"c/{Q}/A"], trained("a")[f"a/{Q}/A"])
    assert not state[f"c/{Q}/B"].any()


def test_zero_of_a_vector_is_the_zero_vector_of_the_same_projection():
    state = inherit([vectors("a")], {"c": source("zero", "a")}, {}, ROLES, 0)
    assert state["c/theta"].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert state["c/projection"].tolist() == [5, 100, 4]


def test_a_copy_without_noise_is_equal_and_shares_no_memory():
    old = trained("a")
    state = inherit([old], {"c": source("copy", "a")}, FRESH, ROLES, 0)
    assert torch.equal(state[f"c/{Q}/A"], old[f"a/{Q}/A"])
    old[f"a/{Q}/A"].zero_()
    assert state[f"c/{Q}/A"].any()


def test_noise_is_relative_to_each_tensors_own_spread():
    old = {f"a/{Q}/A": torch.randn(200, 100) * 7, f"a/{Q}/B": torch.zeros(100, 200)}
    state = inherit([old], {"c": source("copy", "a", noise=0.1)}, FRESH, ROLES, 0)
    added = state[f"c/{Q}/A"] - old[f"a/{Q}/A"]
    assert added.std().item() == pytest.approx(0.7, rel=0.03)
    assert not state[f"c/{Q}/B"].any()


def test_noise_depends_on_seed_and_name_only():
    def copies(seed, *names):
        return inherit([trained("a")], {name: source("copy", "a", noise=0.1) for name in names}, FRESH, ROLES, seed)

    alone, beside = copies(0, "c"), copies(0, "b", "c")
    assert torch.equal(alone[f"c/{Q}/A"], beside[f"c/{Q}/A"])
    assert not torch.equal(beside[f"b/{Q}/A"], beside[f"c/{Q}/A"])
    assert not torch.equal(alone[f"c/{Q}/A"], copies(1, "c")[f"c/{Q}/A"])


def test_interpolation_is_the_mean_of_the_factors():
    state = inherit([trained("a", "b")], {"c": source("interpolate", "a", "b")}, FRESH, ROLES, 0)
    assert state[f"c/{Q}/A"][0].tolist() == [5.0, 6.0, 7.0]
    assert state[f"c/{Q}/B"][0].tolist() == [-5.0, -4.0]


def test_vectors_of_one_projection_interpolate_and_others_do_not():
    state = inherit([vectors("a", "b")], {"c": source("interpolate", "a", "b")}, {}, ROLES, 0)
    assert state["c/theta"].tolist() == [0.5, 1.5, 2.5, 3.5]
    mixed = vectors("a") | vectors("b", seed=6)
    with pytest.raises(AdapterError, match="projection"):
        inherit([mixed], {"c": source("interpolate", "a", "b")}, {}, ROLES, 0)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(source("keep", "z"), r"holds \['a'\]"), (source("keep", "a", module=1), "there are 1")],
)
def test_an_origin_that_is_not_there_is_named(wanted, message):
    with pytest.raises(AdapterError, match=message):
        inherit([trained("a")], {"c": wanted}, FRESH, ROLES, 0)
