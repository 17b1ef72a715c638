"""What bends the logits of few rows before a token is drawn from them: biases, penalties, tokens that are banned."""

import torch
from aruntime_kernels.logits import ban, bias, penalize

from aruntime.engine.device import put
from aruntime.scheduler.scheduler import StepPlan


def steer(logits: torch.Tensor, plan: StepPlan, device: str) -> None:
    """Change the rows of `logits` [R, V] that the plan's bias, penalty and banned columns name."""
    if len(plan.bias_row):
        bias(logits, put(plan.bias_row, device), put(plan.bias_token, device), put(plan.bias, device))
    if len(plan.penalty_row):
        penalize(
            logits,
            put(plan.penalty_row, device),
            put(plan.penalty_token, device),
            put(plan.penalty_output_count, device),
            put(plan.penalty_in_prompt, device),
            put(plan.presence_penalty, device),
            put(plan.frequency_penalty, device),
            put(plan.repetition_penalty, device),
        )
    if len(plan.banned_row):
        ban(logits, put(plan.banned_row, device), put(plan.banned_token, device))
