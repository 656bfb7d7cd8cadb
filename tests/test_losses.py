import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl_reference import build_trainer

from rftlab import losses
from rftlab.advantages import group_relative

ALL = {
    "reinforce": losses.reinforce,
    "ppo_clip": losses.ppo_clip,
    "grpo": losses.grpo,
    "dr_grpo": partial(losses.dr_grpo, max_tokens=8),
    "dapo": losses.dapo,
    "gspo": losses.gspo,
    "cispo": losses.cispo,
}
CLIPPED = {name: ALL[name] for name in ("ppo_clip", "grpo", "dr_grpo", "dapo", "gspo")}
KL = {"k1": losses.kl_k1, "k2": losses.kl_k2, "k3": losses.kl_k3}
every = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
every_clipped = pytest.mark.parametrize("loss", CLIPPED.values(), ids=CLIPPED)


def close(actual, expected, tolerance=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=tolerance, rtol=tolerance)


def gradient(scalar, leaf):
    return torch.autograd.grad(scalar, leaf, retain_graph=True)[0]


def batch(n=6, t=5, seed=0, spread=0.4, dtype=torch.float64):
    """Random log_probs (a leaf), old_log_probs, ref_log_probs, advantages of both signs, mask with an empty row."""
    g = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(n, t, generator=g, dtype=dtype) - 0.05
    log_probs = (old + spread * torch.randn(n, t, generator=g, dtype=dtype)).requires_grad_()
    ref = old + spread * torch.randn(n, t, generator=g, dtype=dtype)
    advantages = torch.randn(n, generator=g, dtype=dtype)
    lengths = torch.randint(1, t + 1, (n,), generator=g)
    lengths[0], lengths[-1] = t, 0
    return log_probs, old, ref, advantages, torch.arange(t) < lengths[:, None]


# --- by hand ----------------------------------------------------------------------------------------------------------

# Two completions, old probability 0.1 throughout. Ratios 1, 1.5, 0.5 with A = 1; and 0.5, padding, padding with A = -2.
OLD = torch.full((2, 3), math.log(0.1), dtype=torch.float64)
NEW = OLD + torch.tensor([[1.0, 1.5, 0.5], [0.5, 7.0, 7.0]], dtype=torch.float64).log()
ADVANTAGES = torch.tensor([1.0, -2.0], dtype=torch.float64)
MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.mark.parametrize("loss, expected", [
    # min(ratio A, clip(ratio) A) with clips 0.2: 1, 1.2, 0.5; and min(-1, -1.6) = -1.6. They sum to 2.7 and -1.6.
    (losses.ppo_clip, -(2.7 - 1.6) / 4),
    (losses.grpo, -(2.7 / 3 - 1.6) / 2),
    (partial(losses.dr_grpo, max_tokens=5), -(2.7 - 1.6) / (2 * 5)),
    (losses.dr_grpo, -(2.7 - 1.6) / (2 * 3)),
    (losses.dapo, -(1 + 1.28 + 0.5 - 1.6) / 4),
    # One ratio a completion: the cube root of 1 * 1.5 * 0.5 = 0.75, which is 0.908560, and 0.5.
    (partial(losses.gspo, clip_low=0.2, clip_high=0.2), -(0.9085603 - 1.6) / 2),
    (losses.gspo, -(0.9085603 - 2 * 0.9997) / 2),
    # log 0.1 = -2.302585, log 0.15 = -1.897120, log 0.05 = -2.995732.
    (losses.reinforce, -(-2.302585 - 1.897120 - 2.995732 + 2 * 2.995732) / 2),
    (losses.cispo, -(-2.302585 - 1.5 * 1.897120 - 0.5 * 2.995732 + 2 * 0.5 * 2.995732) / 4),
    (partial(losses.cispo, clip_low=0.2, clip_high=0.2),
     -(-2.302585 - 1.2 * 1.897120 - 0.8 * 2.995732 + 2 * 0.8 * 2.995732) / 4),
    (partial(losses.ppo_clip, clip_low=0.6, clip_high=0.1), -(1 + 1.1 + 0.5 - 2 * 0.5) / 4),
])
def test_by_hand(loss, expected):
    close(loss(NEW, OLD, ADVANTAGES, MASK), expected)


def test_the_pair_that_a_well_known_course_gets_wrong():
    """A = -1, ratio 0.5, clip 0.2: PPO's objective is min(-0.5, -0.8) = -0.8; clipping without the minimum of both
    *signed* terms gives -0.5 and keeps pushing a token down that is already too low."""
    one = torch.ones(1, 1, dtype=torch.float64)
    log_probs = (0.5 * one).log().requires_grad_()
    for loss in (losses.ppo_clip, losses.grpo, partial(losses.dr_grpo, max_tokens=1), losses.dapo):
        value = loss(log_probs, 0 * one, -one[0], one.bool())
        close(value, 0.8)
        close(gradient(value, log_probs), [[0.0]])


@every_clipped
@pytest.mark.parametrize("advantage, ratio, clipped", [
    (1.0, 0.5, False), (1.0, 1.1, False), (1.0, 1.5, True),
    (-1.0, 0.5, True), (-1.0, 0.9, False), (-1.0, 1.5, False), (-2.0, 1e6, False), (2.0, 1e-6, False),
])
def test_the_gradient_vanishes_only_where_the_clip_binds(loss, advantage, ratio, clipped):
    log_probs = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    advantages, old, mask = torch.tensor([advantage], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1).bool()
    value = loss(log_probs, old, advantages, mask, clip_low=0.2, clip_high=0.2)
    tokens = 8 if loss is ALL["dr_grpo"] else 1
    bound = {1.0: 1.2, -1.0: 0.8}.get(advantage) if clipped else ratio
    close(value, -bound * advantage / tokens)
    close(gradient(value, log_probs), [[0.0 if clipped else -ratio * advantage / tokens]])


def test_clip_low_and_clip_high_are_not_swapped():
    clips = {"clip_low": 0.1, "clip_high": 0.4}
    for ratio, advantage, bound in [(1.3, 1, 1.3), (1.5, 1, 1.4), (0.85, -1, 0.9), (0.95, -1, 0.95)]:
        log_probs = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
        arguments = log_probs, 0 * log_probs, torch.tensor([float(advantage)]), torch.ones(1, 1).bool()
        for loss in CLIPPED.values():
            tokens = 8 if loss is ALL["dr_grpo"] else 1
            close(loss(*arguments, **clips), -bound * advantage / tokens)
        assert losses.clip_fraction(*arguments, **clips) == (bound != ratio)


def test_defaults_are_those_of_the_papers():
    log_probs, old, _, advantages, mask = batch()
    for loss, clips in [(losses.dapo, (0.2, 0.28)), (losses.gspo, (3e-4, 4e-4)), (losses.ppo_clip, (0.2, 0.2)),
                        (losses.grpo, (0.2, 0.2)), (losses.dr_grpo, (0.2, 0.2)), (losses.cispo, (1.0, 4.0))]:
        explicit = loss(log_probs, old, advantages, mask, clip_low=clips[0], clip_high=clips[1])
        assert loss(log_probs, old, advantages, mask) == explicit


def test_cispo_keeps_the_gradient_of_every_token():
    log_probs = NEW.clone().requires_grad_()
    value = losses.cispo(log_probs, OLD, ADVANTAGES, MASK, clip_low=0.2, clip_high=0.2)
    close(gradient(value, log_probs), [[-1 / 4, -1.2 / 4, -0.8 / 4], [2 * 0.8 / 4, 0, 0]])


def test_clip_fraction_by_hand():
    # Removed: ratio 1.5 with A = 1 and ratio 0.5 with A = -2. Kept: ratio 0.5 with A = 1.
    assert losses.clip_fraction(NEW, OLD, ADVANTAGES, MASK) == 0.5
    assert losses.clip_fraction(NEW, OLD, -ADVANTAGES, MASK) == 0.25
    assert losses.clip_fraction(NEW, OLD, 0 * ADVANTAGES, MASK) == 0.0
    assert losses.clip_fraction(NEW, OLD, ADVANTAGES, MASK, num_tokens=8) == 0.25
    assert not losses.clip_fraction(NEW.clone().requires_grad_(), OLD, ADVANTAGES, MASK).requires_grad


def test_clip_fraction_counts_the_vanished_gradients():
    log_probs, old, _, advantages, mask = batch(n=40, t=9, spread=0.5)
    gone = (gradient(losses.ppo_clip(log_probs, old, advantages, mask), log_probs) == 0) & mask
    share = losses.clip_fraction(log_probs, old, advantages, mask)
    assert 0.1 < share < 0.9
    close(share, gone.sum() / mask.sum())


def test_means_by_hand():
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, math.nan, math.inf]])
    close(losses.token_mean(values, MASK), 14 / 4)
    close(losses.sequence_mean(values, MASK), (3 + 5) / 2)
    close(losses.token_mean(values, MASK, num_tokens=7), 2.0)
    close(losses.sequence_mean(values, MASK, num_sequences=4), 2.0)
    # An empty completion must not divide by its length, in the gradient either.
    leaf = values.clone().requires_grad_()
    empty = torch.tensor([[True, True, True], [False, False, False]])
    close(gradient(losses.sequence_mean(leaf, empty), leaf), [[1 / 6, 1 / 6, 1 / 6], [0, 0, 0]])


# --- against TRL ------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trl_loss(tmp_path_factory):
    """f(tensors, **attributes) -> (loss, trainer): what GRPOTrainer._compute_loss makes of these very tensors."""
    trainer = build_trainer("grpo", tmp_path_factory.mktemp("grpo"), lambda completions, **columns: [0.0] * len(completions))
    args = trainer.args
    defaults = {"loss_type": "grpo", "importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2,
                "beta": 0.0, "max_completion_length": 8, "current_gradient_accumulation_steps": 1}

    def run(log_probs, old, ref, advantages, mask, *, steps_per_generation=1, bias_correction=False, num_tokens=None, **attributes):
        for name, value in {**defaults, **attributes}.items():
            assert hasattr(trainer, name)
            setattr(trainer, name, value)
        args.steps_per_generation, args.use_bias_correction_kl = steps_per_generation, bias_correction
        trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (log_probs, torch.zeros_like(old), None)
        ids = torch.zeros(log_probs.shape, dtype=torch.long)
        return trainer._compute_loss(trainer.model, {
            "prompt_ids": ids[:, :1], "prompt_mask": 1 + ids[:, :1], "completion_ids": ids, "completion_mask": mask.long(),
            "advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": ref,
            "num_items_in_batch": mask.sum() if num_tokens is None else torch.tensor(num_tokens)}), trainer

    return run


TRL_SETTINGS = [
    ("ppo_clip", {}, {"loss_type": "bnpo"}),
    ("ppo_clip", {"clip_low": 0.1, "clip_high": 0.5}, {"loss_type": "bnpo", "epsilon_low": 0.1, "epsilon_high": 0.5}),
    ("grpo", {}, {"loss_type": "grpo"}),
    ("grpo", {"clip_low": 0.3, "clip_high": 0.1}, {"loss_type": "grpo", "epsilon_low": 0.3, "epsilon_high": 0.1}),
    ("dr_grpo", {}, {"loss_type": "dr_grpo"}),
    ("dapo", {}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    ("gspo", {}, {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4}),
    ("gspo", {"clip_low": 0.2, "clip_high": 0.2}, {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    ("cispo", {}, {"loss_type": "cispo", "epsilon_high": 5.0}),
    ("cispo", {"clip_high": 0.1}, {"loss_type": "cispo", "epsilon_high": 1.1}),
]
trl_settings = pytest.mark.parametrize("name, ours, theirs", TRL_SETTINGS)


@trl_settings
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_equal_trl(trl_loss, name, ours, theirs, seed):
    tensors = batch(n=12, t=7, seed=seed)
    log_probs, old, _, advantages, mask = tensors
    expected, _ = trl_loss(*tensors, **theirs)
    actual = ALL[name](log_probs, old, advantages, mask, **ours)
    assert gradient(actual, log_probs).abs().max() > 1e-3
    close(actual, expected.detach(), 1e-8)
    close(gradient(actual, log_probs), gradient(expected, log_probs), 1e-8)


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("name, mean", [("grpo", losses.sequence_mean), ("dapo", losses.token_mean)])
def test_the_kl_term_equals_trl(trl_loss, name, mean, bias_correction):
    tensors = batch(n=12, t=7, seed=3)
    log_probs, old, ref, advantages, mask = tensors
    expected, trainer = trl_loss(*tensors, loss_type=name, beta=0.3, bias_correction=bias_correction)
    kl = losses.kl_k3(log_probs, ref, mask)
    if bias_correction:
        kl = (log_probs - old).exp() * kl
    actual = ALL[name](log_probs, old, advantages, mask, clip_high=0.2) + 0.3 * mean(kl, mask)
    close(actual, expected.detach(), 1e-8)
    close(gradient(actual, log_probs), gradient(expected, log_probs), 1e-8)
    close(losses.token_mean(kl, mask).detach(), trainer._metrics["train"]["kl"][-1], 1e-5)


def test_clip_fraction_equals_trl(trl_loss):
    tensors = batch(n=12, t=7, seed=4)
    log_probs, old, _, advantages, mask = tensors
    _, trainer = trl_loss(*tensors, epsilon_low=0.1, epsilon_high=0.3)
    share = losses.clip_fraction(log_probs, old, advantages, mask, clip_low=0.1, clip_high=0.3)
    assert share > 0.1
    close(share, trainer._metrics["train"]["clip_ratio/region_mean"][-1], 1e-5)


@pytest.mark.parametrize("name, ours, theirs", [setting for setting in TRL_SETTINGS if setting[0] != "ppo_clip"])
def test_micro_batches_equal_trl_gradient_accumulation(trl_loss, name, ours, theirs):
    """Two steps of accumulation. Not for bnpo: TRL averages the token means of the micro-batches, so that there the
    result depends on how the batch is cut; ours is exact."""
    tensors = batch(n=12, t=7, seed=5)
    log_probs, old, _, advantages, mask = tensors
    total = int(mask.sum())
    for rows in (slice(0, 6), slice(6, 12)):
        expected, _ = trl_loss(*(x[rows] for x in tensors), current_gradient_accumulation_steps=2,
                               steps_per_generation=2, num_tokens=total, **theirs)
        actual = ALL[name](log_probs[rows], old[rows], advantages[rows], mask[rows], num_sequences=12, num_tokens=total, **ours)
        close(actual, expected.detach(), 1e-8)


def test_reinforce_has_the_gradient_of_trls_rloo_loss(tmp_path):
    trainer = build_trainer("rloo", tmp_path, lambda completions, **columns: [0.0] * len(completions))
    log_probs, _, _, advantages, mask = batch(n=12, t=7)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (log_probs, torch.zeros_like(log_probs), None)
    ids = torch.zeros(log_probs.shape, dtype=torch.long)
    theirs = trainer._compute_loss(trainer.model, {
        "prompt_ids": ids[:, :1], "prompt_mask": 1 + ids[:, :1], "completion_ids": ids, "completion_mask": mask.long(),
        "advantages": advantages, "old_logps": (log_probs * mask).sum(dim=1).detach()})
    ours = losses.reinforce(log_probs, None, advantages, mask)
    close(gradient(ours, log_probs), gradient(theirs, log_probs), 1e-8)


# --- on policy, all are REINFORCE -------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [name for name in ALL if name != "reinforce"])
@given(seed=st.integers(0, 10**6), n=st.integers(2, 7), t=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_on_policy_the_gradient_is_reinforces(name, seed, n, t):
    log_probs, _, _, advantages, mask = batch(n, t, seed)
    lengths, tokens = mask.sum(dim=1, keepdim=True).clamp(min=1).double(), mask.sum().double()
    # What one token weighs here, as a multiple of what it weighs in REINFORCE.
    weight = {"grpo": 1 / lengths, "gspo": 1 / lengths, "dr_grpo": 1 / 8}.get(name, n / tokens)
    plain = gradient(losses.reinforce(log_probs, None, advantages, mask), log_probs)
    loss = ALL[name](log_probs, log_probs.detach(), advantages, mask)
    close(gradient(loss, log_probs), plain * weight, 1e-9)
    assert plain.abs().max() > 0


@pytest.mark.parametrize("name", list(CLIPPED))
def test_on_policy_the_loss_is_minus_the_mean_advantage_and_still_has_a_gradient(name):
    """The most asked question about GRPO: the loss is 0 because advantages sum to 0, not because nothing is learnt."""
    log_probs = torch.full((8, 4), -1.0, dtype=torch.float64, requires_grad=True)
    advantages = group_relative(torch.tensor([[1.0, 0, 0, 1], [1, 1, 1, 0]], dtype=torch.float64)).flatten()
    loss = ALL[name](log_probs, log_probs.detach(), advantages, torch.ones(8, 4).bool())
    close(loss, 0.0)
    assert gradient(loss, log_probs).abs().min() > 1e-3


# --- autograd against finite differences ------------------------------------------------------------------------------

@every
def test_gradient_equals_finite_differences(loss):
    log_probs, old, _, advantages, mask = batch(seed=7)
    if loss is ALL["cispo"]:  # the weight is a constant by definition, so freeze it: step around the old policy's ratio
        weight = (log_probs - old).exp().clamp(max=5).detach()
        frozen = lambda x: -losses.token_mean(weight * advantages[:, None] * x, mask)
        close(gradient(loss(log_probs, old, advantages, mask), log_probs), gradient(frozen(log_probs), log_probs), 1e-12)
        loss = lambda x, *rest: frozen(x)
    assert torch.autograd.gradcheck(lambda x: loss(x, old, advantages, mask), log_probs, eps=1e-7, atol=1e-6)


@every
def test_no_gradient_flows_into_old_log_probs_or_advantages(loss):
    log_probs, old, _, advantages, mask = batch()
    old.requires_grad_(), advantages.requires_grad_()
    loss(log_probs, old, advantages, mask).backward()
    assert old.grad is None and advantages.grad is None and log_probs.grad is not None


# --- mask and micro-batches -------------------------------------------------------------------------------------------

@every
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_padding_does_not_leak_into_value_or_gradient(loss, garbage):
    clean, old, _, advantages, mask = batch()
    dirty = clean.detach().masked_fill(~mask, garbage).requires_grad_()
    expected, dirty_old = loss(clean, old, advantages, mask), old.masked_fill(~mask, garbage)
    for other in (dirty_old, old):
        actual = loss(dirty, other, advantages, mask)
        assert actual == expected and actual.isfinite()
        assert (gradient(actual, dirty) == gradient(loss(clean, old, advantages, mask), clean)).all()
        assert (gradient(loss(dirty, other, advantages, mask), dirty)[~mask] == 0).all()
    assert losses.clip_fraction(dirty, dirty_old, advantages, mask) == losses.clip_fraction(clean, old, advantages, mask)


@every
def test_one_token_in_the_mask_changes_the_loss(loss):
    log_probs, old, _, advantages, mask = batch()
    less = mask.clone()
    less[0, 2] = False
    wide = {"clip_low": 0.9, "clip_high": 0.9}
    assert (loss(log_probs, old, advantages, mask, **wide) - loss(log_probs, old, advantages, less, **wide)).abs() > 1e-3


@every
def test_integer_mask_equals_bool_mask(loss):
    log_probs, old, _, advantages, mask = batch()
    assert loss(log_probs, old, advantages, mask.long()) == loss(log_probs, old, advantages, mask)


@every
def test_an_empty_completion_adds_zero_and_counts_as_a_sequence(loss):
    log_probs, old, _, advantages, mask = batch()
    assert not mask[-1].any()
    without = loss(log_probs[:-1], old[:-1], advantages[:-1], mask[:-1])
    by_sequence = loss in (ALL["reinforce"], ALL["grpo"], ALL["dr_grpo"], ALL["gspo"])
    close(loss(log_probs, old, advantages, mask), (without * (5 / 6 if by_sequence else 1)).detach(), 1e-12)


@every
def test_an_empty_batch_has_loss_zero_and_gradient_zero(loss):
    log_probs, old, _, advantages, mask = batch()
    for totals in ({}, {"num_sequences": 12, "num_tokens": 30}, {"num_sequences": 6, "num_tokens": 0}):
        value = loss(log_probs, old, advantages, torch.zeros_like(mask), **totals)
        assert value == 0 and (gradient(value, log_probs) == 0).all()


@every
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_micro_batches_sum_to_the_batch(loss, seed, cut):
    log_probs, old, _, advantages, mask = batch(seed=seed)
    whole = loss(log_probs, old, advantages, mask)
    totals = {"num_sequences": len(mask), "num_tokens": int(mask.sum())}
    parts = []
    for rows in (slice(0, cut), slice(cut, len(mask))):
        width = max(int(mask[rows].sum(dim=1).max()), 1)  # micro-batches may be trimmed to their own longest completion
        parts.append(loss(log_probs[rows, :width], old[rows, :width], advantages[rows], mask[rows, :width], **totals))
    close(sum(parts), whole.detach(), 1e-10)
    close(gradient(sum(parts), log_probs), gradient(whole, log_probs), 1e-10)


# --- KL estimators ----------------------------------------------------------------------------------------------------

THETA = torch.tensor([0.5, -1.0, 0.2, 1.4], dtype=torch.float64)
REF = torch.tensor([0.1, 0.3, -0.4, 0.6], dtype=torch.float64).log_softmax(0)


def exact_kl(p, q):
    return (p.exp() * (p - q)).sum()


def test_kl_by_hand():
    log_probs, ref = torch.tensor([[math.log(0.5), math.log(0.2)]]), torch.tensor([[math.log(0.25), math.log(0.4)]])
    close(losses.kl_k1(log_probs, ref), [[math.log(2), -math.log(2)]])
    close(losses.kl_k2(log_probs, ref), [[math.log(2) ** 2 / 2] * 2])
    close(losses.kl_k3(log_probs, ref), [[0.5 - 1 + math.log(2), 2 - 1 - math.log(2)]])


def test_kl_expectations_on_a_categorical():
    """Exactly, by summing over all four outcomes: k1 and k3 are unbiased, k2 is not."""
    p = THETA.log_softmax(0)
    mean = {name: float((p.exp() * k(p, REF)).sum()) for name, k in KL.items()}
    truth = float(exact_kl(p, REF))
    assert truth > 0.1
    assert mean["k1"] == pytest.approx(truth, abs=1e-12) and mean["k3"] == pytest.approx(truth, abs=1e-12)
    assert abs(mean["k2"] - truth) > 0.01


def test_kl_means_converge_and_k3_is_less_noisy_only_while_the_policies_are_close():
    for step, less_noisy in [(0.1, True), (1.0, False)]:
        p = torch.lerp(REF, THETA, step).log_softmax(0)
        drawn = torch.multinomial(p.exp(), 100_000, replacement=True, generator=torch.Generator().manual_seed(0))
        k1, k3 = losses.kl_k1(p[drawn], REF[drawn]), losses.kl_k3(p[drawn], REF[drawn])
        for estimate in (k1, k3):
            assert abs(estimate.mean() - exact_kl(p, REF)) < 4 * estimate.std() / 100_000 ** 0.5
        assert (k3.std() < 0.2 * k1.std()) == less_noisy
        assert (k3.std() > k1.std()) != less_noisy


def test_expected_kl_gradients_on_a_categorical():
    """k1: zero. k2: that of KL(pi || ref). k3: that of KL(ref || pi). ratio * k3: that of KL(pi || ref)."""
    theta = THETA.clone().requires_grad_()
    reverse = gradient(exact_kl(theta.log_softmax(0), REF), theta)
    forward = gradient(exact_kl(REF, theta.log_softmax(0)), theta)
    assert (reverse - forward).abs().max() > 0.01

    def expected_gradient(estimator):
        p = theta.log_softmax(0)
        return gradient((p.exp().detach() * estimator(p)).sum(), theta)

    close(expected_gradient(lambda p: losses.kl_k1(p, REF)), torch.zeros(4), 1e-12)
    close(expected_gradient(lambda p: losses.kl_k2(p, REF)), reverse, 1e-12)
    close(expected_gradient(lambda p: losses.kl_k3(p, REF)), forward, 1e-12)
    close(expected_gradient(lambda p: (p - p.detach()).exp() * losses.kl_k3(p, REF)), reverse, 1e-12)


@given(x=st.floats(-20, 20), y=st.floats(-20, 20))
@settings(max_examples=200, deadline=None)
def test_k2_and_k3_are_never_negative_and_vanish_only_where_equal(x, y):
    x, y = torch.tensor([[x]], dtype=torch.float32), torch.tensor([[y]], dtype=torch.float32)
    for k in (losses.kl_k2, losses.kl_k3):
        assert k(x, y) >= 0 and k(x, x) == 0
    if (x - y).abs() > 0.01:
        assert losses.kl_k3(x, y) > 0 and losses.kl_k1(x, y) == -losses.kl_k1(y, x)


def test_k3_is_stable_near_zero():
    """At a log ratio of 1e-4 in float32, exp(x) - x - 1 gives 0 or 1e-7 where 5e-9 is right."""
    x = torch.cat([10.0 ** torch.linspace(-5, -2, 200), -(10.0 ** torch.linspace(-5, -2, 200))])
    exact = torch.expm1(x.double()) - x.double()
    assert ((losses.kl_k3(-x, 0 * x) - exact).abs() < 0.02 * exact).all()
    assert ((x.exp() - x - 1 - exact).abs() > 0.5 * exact).any()


@pytest.mark.parametrize("k", KL.values(), ids=KL)
def test_kl_gradients_and_masks(k):
    log_probs, _, ref, _, mask = batch()
    assert torch.autograd.gradcheck(lambda x: k(x, ref), log_probs)
    clean = gradient(losses.token_mean(k(log_probs, ref), mask), log_probs)
    for garbage in (math.nan, math.inf, -math.inf, -1e30):
        dirty = log_probs.detach().masked_fill(~mask, garbage).requires_grad_()
        value = k(dirty, ref.masked_fill(~mask, -1.0), mask)
        assert (value[~mask] == 0).all()
        assert (gradient(losses.token_mean(value, mask), dirty) == clean).all()
    ref.requires_grad_()
    k(log_probs, ref).sum().backward()
    assert ref.grad is None


# --- they learn -------------------------------------------------------------------------------------------------------

@every
@pytest.mark.parametrize("seed", range(3))
def test_a_bandit_learns_its_best_arm(loss, seed):
    """Three arms that pay with probability 0.2, 0.5 and 0.8; groups of 32, two optimiser steps per rollout."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    pay, mask = torch.tensor([0.2, 0.5, 0.8]), torch.tensor([[True, False]]).expand(32, 2)
    for _ in range(60):
        policy = logits.detach().softmax(0)
        arms = torch.multinomial(policy, 32, replacement=True, generator=generator)
        rewards = torch.bernoulli(pay[arms], generator=generator)
        advantages = group_relative(rewards.view(1, 32)).flatten()
        old = policy.log()[arms]
        padding = torch.full((32,), math.nan)
        for _ in range(2):
            log_probs = torch.stack([logits.log_softmax(0)[arms], padding], dim=1)
            optimiser.zero_grad()
            loss(log_probs, torch.stack([old, padding], dim=1), advantages, mask).backward()
            optimiser.step()
    assert logits.softmax(0)[2] > 0.9


# --- errors -----------------------------------------------------------------------------------------------------------

@every
@pytest.mark.parametrize("change, message", [
    ({"log_probs": torch.zeros(6)}, r"log_probs \(6,\)"),
    ({"log_probs": torch.zeros(6, 1)}, r"\(6, 1\)"),
    ({"advantages": torch.zeros(6, 1)}, r"advantages \(6, 1\).*flatten"),
    ({"advantages": torch.zeros(2, 3)}, r"advantages \(2, 3\).*flatten"),
    ({"advantages": torch.zeros(5)}, r"advantages \(5,\)"),
    ({"completion_mask": torch.ones(6, 4).bool()}, r"\(6, 4\)"),
    ({"completion_mask": torch.ones(6).bool()}, r"completion_mask \(6,\)"),
    ({"completion_mask": torch.ones(6, 5)}, r"float32.*completion_mask.bool\(\)"),
    ({name: torch.zeros(6, 0) for name in ("log_probs", "old_log_probs", "completion_mask")}, r"\(6, 0\)"),
])
def test_wrong_shapes_are_named(loss, change, message):
    log_probs, old, _, advantages, mask = batch()
    arguments = {"log_probs": log_probs, "old_log_probs": old, "advantages": advantages, "completion_mask": mask}
    with pytest.raises(ValueError, match=message):
        loss(**{**arguments, **change})


def test_wrong_numbers_are_named():
    log_probs, old, ref, advantages, mask = batch()
    for loss in CLIPPED.values():
        with pytest.raises(ValueError, match=r"old_log_probs \(6, 4\)"):
            loss(log_probs, old[:, :4], advantages, mask)
        with pytest.raises(ValueError, match="clip_low=-0.2"):
            loss(log_probs, old, advantages, mask, clip_low=-0.2)
    with pytest.raises(ValueError, match=f"num_tokens=3, but this call alone has {int(mask.sum())}"):
        losses.dapo(log_probs, old, advantages, mask, num_tokens=3)
    for loss in (losses.reinforce, losses.grpo, losses.dr_grpo, losses.gspo):
        with pytest.raises(ValueError, match="num_sequences=5, but this call alone has 6"):
            loss(log_probs, old, advantages, mask, num_sequences=5)
    with pytest.raises(ValueError, match="max_tokens is 0"):
        losses.dr_grpo(log_probs, old, advantages, mask, max_tokens=0)
    for k in KL.values():
        with pytest.raises(ValueError, match=r"\(6, 5\).*\(6, 4\)"):
            k(log_probs, ref[:, :4])
