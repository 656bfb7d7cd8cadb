"""Train speculators on the policy's own answers, so that they guess what it would say, not what would be right.

`turbo`: heads only, the policy frozen; its hidden states are computed once. `turbo_lora`: heads and adapters together, on given
texts; the heads' loss reaches the adapters, which is why a jointly trained policy answers differently from one trained alone.
"""
import time
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from rftlab import evaluate, lora, losses, records
from rftlab.logprobs import completion_log_probs, head_log_probs, pack
from rftlab.loop import Loop, configuration, draw
from rftlab.rollout import rollout
from rftlab.sft import encode_targets
from rftlab.speculative.decode import decode
from rftlab.speculative.draft_model import DraftModel
from rftlab.speculative.heads import Heads
from rftlab.tasks import Problem

DECAY = 0.8  # weight of each head's loss relative to the one before (Medusa); later heads are needed less often


def train_heads(policy, prompts, texts=None, *, joint=False, heads=None, k=4, chained=True, steps=200, seed=0, rows_per_step=8,
                max_new_tokens=128, samples=1, temperature=0.0, lr=None, head_weight=0.2, eval_prompts=None, checkpoint=None,
                checkpoint_every=20, on_step=None, experiment="adhoc", arm=None):
    """Train k heads for `policy`, and keep them as policy.speculators["turbo"]; returns (heads, record).

    texts: one for each prompt; by default the policy's own answers of up to max_new_tokens tokens, `samples` of each prompt
    (greedy at temperature 0). joint=True trains the adapters too: their loss on the texts plus head_weight times the heads'.
    heads: go on with these. record.final["tokens_per_pass"] and ["acceptance_rate"] are measured by decoding eval_prompts, where given
    and where their answers are long enough for it.
    checkpoint, on_step and Ctrl-C work as in `rftlab.grpo.train`. Raises ValueError for no prompts, numbers that do not fit, or
    joint=True without adapters.
    """
    if joint and not policy.adapters:
        raise ValueError("joint training needs adapters; load the policy with lora=LoraSpec(...), or pass joint=False")
    lr = lr if lr is not None else 4e-4 if joint else 1e-3
    arguments = {"joint": joint, "k": k, "chained": chained, "steps": steps, "seed": seed, "rows_per_step": rows_per_step,
                 "max_new_tokens": max_new_tokens, "samples": samples, "temperature": temperature, "lr": lr, "head_weight": head_weight}
    data = examples(policy, prompts, texts, max_new_tokens, samples, temperature, seed)
    if heads is None:
        heads = Heads(policy.model.config.hidden_size, k, chained, _vocabulary(policy, data)).to(policy.model.device)
    heads.requires_grad_(True)
    hidden = None if joint else torch.cat([_hidden(policy.model, data.rows(part)).detach() for part in _parts(len(data.ids))])

    def loss_of(rows):
        part = data.rows(rows)
        h = _hidden(policy.model, part) if joint else hidden[rows]
        loss, metrics = heads_loss(policy, heads, h, part.ids, part.mask)
        if joint:
            log_probs = head_log_probs(h[part.mask], policy.model.get_output_embeddings(), part.ids[part.mask])
            metrics["policy_loss"] = -float(log_probs.detach().mean())
            loss = head_weight * loss - log_probs.mean()
        return loss, metrics

    parameters = [*heads.parameters(), *(policy.parameters if joint else [])]
    record = _run(policy, parameters, policy.after_step if joint else _nothing, loss_of, data, arguments, lr=lr, steps=steps,
                  checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_step=on_step, experiment=experiment,
                  arm=arm or ("turbo_lora" if joint else "turbo"))
    policy.speculators["turbo"] = heads.requires_grad_(False)
    return heads, _measured(policy, heads, record, eval_prompts, max_new_tokens)


def train_draft(policy, prompts, texts=None, *, layers=2, k=4, steps=200, seed=0, rows_per_step=8, max_new_tokens=128, samples=1,
                temperature=0.0, lr=1e-3, rank=64, eval_prompts=None, checkpoint=None, checkpoint_every=20, on_step=None,
                experiment="adhoc", arm="draft"):
    """Distil the policy's first `layers` blocks on its answers, and keep them as policy.speculators["draft"].

    What trains are adapters of `rank`, in float32 whatever the model's own format, folded in at the end. Returns (draft model, record); the other arguments are those of train_heads.
    """
    arguments = {"layers": layers, "k": k, "steps": steps, "seed": seed, "rows_per_step": rows_per_step, "lr": lr,
                 "rank": rank, "max_new_tokens": max_new_tokens, "samples": samples, "temperature": temperature}
    data = examples(policy, prompts, texts, max_new_tokens, samples, temperature, seed)
    draft = DraftModel.of(policy, layers, k)

    def loss_of(rows):
        part = data.rows(rows)
        log_probs = completion_log_probs(draft.model, part.prompt_ids, part.prompt_mask, part.ids, part.mask)
        return -losses.token_mean(log_probs, part.mask, int(part.mask.sum())), {}

    with _frozen(policy.model):  # embedding and head are the same tensors in both
        adapters = lora.attach(draft.model, lora.LoraSpec(rank, 2 * rank), seed)
        record = _run(policy, [p for a in adapters.values() for p in (a.A, a.B)], lambda: lora.merge(adapters), loss_of, data, arguments,
                      lr=lr, steps=steps, checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_step=on_step,
                      experiment=experiment, arm=arm)
        lora.fold(draft.model, adapters)
    policy.speculators["draft"] = draft
    return draft, _measured(policy, draft, record, eval_prompts, max_new_tokens)


def heads_loss(policy, heads, hidden, ids, mask):
    """Cross-entropy of the heads on known texts, and how well they guess.

    hidden (B, T, H): the state that each token was predicted from; ids, mask (B, T). Head j at token t follows the tokens
    t to t + j and guesses t + j + 1. Returns the loss, each head's weighted by DECAY^j, and {"tokens_per_pass", "head_1", ...}:
    the mean of 1 + the correct guesses before the first wrong one, and each head's share of right guesses.
    """
    rows, places = mask.nonzero(as_tuple=True)
    ahead = places[:, None] + torch.arange(heads.most + 1, device=ids.device)  # (M, most + 1)
    known = (ahead < ids.shape[1]) & mask[rows[:, None], ahead.clamp(max=ids.shape[1] - 1)]
    tokens = ids[rows[:, None], ahead.clamp(max=ids.shape[1] - 1)]
    embedded = policy.model.get_input_embeddings()(tokens[:, :-1]).detach().to(heads.W.dtype)
    states = heads.states(hidden[rows, places].to(heads.W.dtype), embedded)
    output, targets, keep = policy.model.get_output_embeddings(), tokens[:, 1:], known[:, 1:]
    weight, bias = output.weight.detach(), None if output.bias is None else output.bias.detach()
    if heads.vocabulary is not None:
        place = torch.full((len(weight),), -1, device=ids.device)
        place[heads.vocabulary] = torch.arange(len(heads.vocabulary), device=ids.device)
        weight, targets = weight[heads.vocabulary], place[targets]
        bias = None if bias is None else bias[heads.vocabulary]
    logits = F.linear(states, weight.to(states.dtype), None if bias is None else bias.to(states.dtype))
    scored = keep & (targets >= 0)
    loss = F.cross_entropy(logits[scored], targets[scored], reduction="none")
    shares = DECAY ** torch.arange(heads.most, device=ids.device) / scored.sum(0).clamp(min=1)
    right = (logits.argmax(-1) == targets) & keep
    several = keep.any(1)
    passes = right[several].long().cumprod(1).sum(1).float()
    metrics = {"tokens_per_pass": 1 + float(passes.mean())} if len(passes) else {}  # a text of one token leaves nothing to guess
    metrics |= {f"head_{j + 1}": float(right[:, j].sum() / keep[:, j].sum().clamp(min=1)) for j in range(heads.most)}
    return (loss * shares.expand(len(scored), -1)[scored]).sum(), metrics


class Examples(SimpleNamespace):
    """prompts and texts (lists); prompt_ids, prompt_mask (N, P) padded on the left; ids, mask (N, T) padded on the right."""

    def rows(self, chosen):
        return Examples(prompt_ids=self.prompt_ids[chosen], prompt_mask=self.prompt_mask[chosen], ids=self.ids[chosen], mask=self.mask[chosen])


def examples(policy, prompts, texts=None, max_new_tokens=128, samples=1, temperature=0.0, seed=0) -> Examples:
    """What to learn from: the given texts, or the policy's own answers."""
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts must be a non-empty list of questions, got {prompts!r}")
    if samples > 1 and temperature == 0:
        raise ValueError(f"samples={samples} at temperature 0 would be the same answer {samples} times; raise the temperature")
    prompts = list(prompts)
    if texts is None:
        r = rollout(policy, prompts, samples, max_new_tokens, temperature, seed)
        repeat = torch.arange(len(prompts), device=r.prompt_ids.device).repeat_interleave(samples)
        return Examples(prompts=[p for p in prompts for _ in range(samples)], texts=r.texts, prompt_ids=r.prompt_ids[repeat],
                        prompt_mask=r.prompt_mask[repeat], ids=r.completion_ids, mask=r.completion_mask)
    if len(texts) != len(prompts) or not all(texts):
        raise ValueError(f"expected one text that is not empty for each of {len(prompts)} prompts, got {len(texts)}")
    prompt_ids, prompt_mask = policy.encode(prompts)
    ids, mask = encode_targets(policy, list(texts))
    return Examples(prompts=prompts, texts=list(texts), prompt_ids=prompt_ids, prompt_mask=prompt_mask, ids=ids, mask=mask)


def _hidden(model, part):
    """The hidden state (B, T, H) that each token of the answers is predicted from."""
    ids, positions, attention, source, _ = pack(part.prompt_ids, part.prompt_mask, part.ids, part.mask, 1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in model.parameters())):
        h = model.base_model(input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False)[0]
    return h.gather(1, source[:, 0, :, None].expand(-1, -1, h.shape[-1]))


def _parts(count):
    return torch.arange(count).split(16)


def _vocabulary(policy, data):
    """The tokens of the texts; None where that is most of the vocabulary, and leaving the rest out saves nothing."""
    used = torch.cat([data.ids[data.mask], torch.tensor(sorted(policy.end_ids), device=data.ids.device)]).unique()
    return used if 2 * len(used) < policy.model.get_output_embeddings().weight.shape[0] else None


def _run(policy, parameters, after_step, loss_of, data, arguments, *, lr, steps, checkpoint, checkpoint_every, on_step,
         experiment, arm):
    """Gradient steps on rows of the examples, in the loop that all training shares."""
    task = SimpleNamespace(name="given texts" if arguments.get("joint") else "own answers")
    problems = [Problem(prompt=str(p), answer=t) for p, t in zip(data.prompts, data.texts)]
    record = records.new(experiment, arm, task.name, policy.name, len(problems), arguments["seed"],
                         configuration(policy, task, problems, arguments))
    trainee = SimpleNamespace(parameters=parameters, after_step=after_step, model=policy.model, adapters=policy.adapters)
    loop = Loop(trainee, task, record, steps=steps, lr=lr, eval_problems=None, eval_every=0, max_new_tokens=0, patience=None,
                checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_step=on_step)
    for step in loop:
        start = time.perf_counter()
        rows = draw(range(len(problems)), arguments["rows_per_step"], arguments["seed"], step)
        loss, metrics = loss_of(torch.tensor(rows))
        loss.backward()
        norm = loop.step_optimizer()
        loop.log(step, {"loss": loss.item(), "grad_norm": norm, **metrics, "seconds_update": time.perf_counter() - start})
    return loop.finish()


def _measured(policy, speculator, record, prompts, max_new_tokens):
    """The record with what decoding new prompts gives; what their answers are too short for is left out."""
    if prompts:
        out = decode(policy, list(prompts), speculator, max_new_tokens)
        each = [(len(tokens) - 1) / passes for tokens, passes in zip(out.tokens, out.row_passes) if passes]
        if each:  # answers of one token need no pass after the prompt's
            record.final["tokens_per_pass"] = evaluate.bootstrap(each, bounds=(1.0, speculator.k + 1.0)).to_dict()
        if out.tested:
            record.final["acceptance_rate"] = {"mean": out.acceptance_rate, "low": out.acceptance_rate, "high": out.acceptance_rate, "n": out.tested}
    return record


@contextmanager
def _frozen(model):
    """No parameter of the model takes a gradient inside this context."""
    training = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in training:
            parameter.requires_grad_(True)


def _nothing() -> None:
    """The policy did not change."""
