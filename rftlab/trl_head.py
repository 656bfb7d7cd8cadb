"""TRL 1.15 computes its head in a Triton kernel, which no machine without a GPU can run: the same values from torch, there."""


class PlainHead:
    """In the place of TRL's `_ChunkedLogProbFunction`: log-probability and entropy of each label, and what SFT's metrics ask for."""

    @staticmethod
    def apply(hidden, weight, bias, labels, temperature, chunk=None, softcap=None, scale=1.0, outputs=("entropy",)):
        """(log_probs, entropy, log_sum_sq_probs, mean_logits, is_top1), each (N,) or None where `outputs` does not name it."""
        import torch

        logits = torch.nn.functional.linear(hidden, weight, bias).float() * scale
        if softcap:
            logits = softcap * torch.tanh(logits / softcap)
        log_all = (logits / temperature).log_softmax(-1)
        log_probs = log_all.gather(-1, labels[:, None])[:, 0]
        optional = {"entropy": lambda: -(log_all.exp() * log_all).sum(-1), "mean_logits": lambda: (logits / temperature).mean(-1).detach(),
                    "log_sum_sq_probs": lambda: (2 * log_all.detach()).logsumexp(-1),
                    "is_top1": lambda: log_all.detach().argmax(-1) == labels}
        found = {name: make() if name in outputs else None for name, make in optional.items()}
        return log_probs, found["entropy"], found["log_sum_sq_probs"], found["mean_logits"], found["is_top1"]


def use_plain_head_without_gpu() -> None:
    """Let TRL take PlainHead where there is no GPU; elsewhere, and in a TRL without that kernel, nothing changes."""
    import trl.trainer.utils

    from rftlab import machine

    if machine.device() == "cpu" and hasattr(trl.trainer.utils, "_ChunkedLogProbFunction"):
        trl.trainer.utils._ChunkedLogProbFunction = PlainHead
