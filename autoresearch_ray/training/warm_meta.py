"""Makes the first operations on the meta device fast in all children of a launcher, by doing a few before the fork.

Nothing on that device has content, so no thread is started. Does not own what is run there (dry_run.py).
"""

import torch


def warm() -> None:
    """Build, train and step a tiny model on the meta device: torch looks much up at each operation's first call."""
    with torch.device("meta"):
        embedding, linear = torch.nn.Embedding(16, 8), torch.nn.Linear(8, 16)
        tokens = torch.zeros(2, 4, dtype=torch.long)
        hidden = torch.nn.functional.rms_norm(embedding(tokens), (8,))
        query = hidden.view(2, 4, 2, 4).transpose(1, 2)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        logits = linear(torch.cat([mixed.transpose(1, 2).reshape(2, 4, 8)], dim=-1)).relu().square().tanh()
        loss = torch.nn.functional.cross_entropy(logits.view(-1, 16), tokens.view(-1))
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW([*embedding.parameters(), *linear.parameters()], lr=0.1)
    optimizer.step()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.uniform_(-1, 1).normal_().zero_().fill_(1.0).lerp_(parameter, 0.5)
            parameter.sub_(torch.stack([parameter, parameter]).sum(0) / parameter.norm())


warm()
