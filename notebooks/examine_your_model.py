"""Examine a model of your own: train it, let every memory of it have a verdict, and ask what the verdict rests on.

marimo edit notebooks/examine_your_model.py     python notebooks/examine_your_model.py
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Examine a model of your own")


@app.cell
def _():
    import marimo as mo
    import torch
    from torch import nn
    from torch.nn import functional as F

    import mnemoscope as ms
    from mnemoscope.reporting.curves import horizon_figure
    from mnemoscope.reporting.evidence import controls_table
    from mnemoscope.reporting.forest import effects_figure
    from mnemoscope.reporting.summary import headline, sentence
    from mnemoscope.reporting.takeaway import standalone
    from mnemoscope.tasks import MqarConfig, build_task, task_rng

    return (
        F,
        MqarConfig,
        build_task,
        controls_table,
        effects_figure,
        headline,
        horizon_figure,
        mo,
        ms,
        nn,
        sentence,
        standalone,
        task_rng,
        torch,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Is the memory of this model load-bearing or decorative?

    The model below is one that Mnemoscope has never seen: two blocks, each with attention to the last few tokens and a
    memory that sums up what was written. A module that holds `read = ms.ReadPoint()` is put on trial; nothing else has
    to be said. The task is recall: pairs of a key and a value, then questions.

    Move the window of attention. While it is short, only the memory can know an early pair. How wide must it be before
    the memory is no longer missed?
    """)
    return


@app.cell
def _(F, ms, nn, torch):
    class Memory(nn.Module):
        """Writes each token under the key of the token before it; reads by the present token."""

        def __init__(self, d):
            super().__init__()
            self.key, self.value, self.query, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
            self.read = ms.ReadPoint()

        def forward(self, x):
            before = F.pad(x, (0, 0, 1, 0))[:, :-1]
            keys, queries = F.normalize(self.key(before), dim=-1), F.normalize(self.query(x), dim=-1)
            return self.out(self.read((queries @ keys.mT).tril() @ self.value(x)))

    class ShortAttention(nn.Module):
        """Attention to the last few tokens, which sees each token beside the one before it: a way round the memory."""

        role = "route"

        def __init__(self, d, window):
            super().__init__()
            self.key, self.value, self.query, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
            self.window, self.read = window, ms.ReadPoint()

        def forward(self, x):
            before = F.pad(x, (0, 0, 1, 0))[:, :-1]
            time = torch.arange(x.shape[1])
            age = time[:, None] - time
            seen = (age >= 0) & (age < self.window)
            found = F.scaled_dot_product_attention(self.query(x), self.key(before), self.value(x), attn_mask=seen)
            return self.out(self.read(found))

    class Block(nn.Module):
        """Attention, then memory, each beside the stream."""

        def __init__(self, d, window):
            super().__init__()
            self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
            self.attention, self.memory = ShortAttention(d, window), Memory(d)

        def forward(self, x):
            x = x + self.attention(self.norms[0](x))
            return x + self.memory(self.norms[1](x))

    class Model(nn.Module):
        """Tokens (b, t) to logits (b, t, vocab)."""

        def __init__(self, vocab_size, d, window):
            super().__init__()
            self.embed, self.logits = nn.Embedding(vocab_size, d), nn.Linear(d, vocab_size)
            self.blocks = nn.Sequential(Block(d, window), Block(d, window))
            self.norm = nn.LayerNorm(d)

        def forward(self, tokens):
            return self.logits(self.norm(self.blocks(self.embed(tokens))))

    return (Model,)


@app.cell
def _(mo):
    window = mo.ui.slider(steps=[2, 4, 8, 16, 32], value=4, show_value=True, label="tokens that attention sees")
    pairs = mo.ui.slider(steps=[2, 4, 8], value=4, show_value=True, label="pairs to remember")
    mo.hstack([window, pairs], justify="start", gap=2)
    return pairs, window


@app.cell
def _(ms):
    training = ms.TrainConfig(steps=200, batch_size=32, learning_rate=3e-3, warmup_steps=20, eval_every=200)
    budget = ms.Budget(n_calibration=128, n_test=256, fit_steps=60, windows=(1, 2, 4, 8, 16))
    return budget, training


@app.cell
def _(Model, MqarConfig, build_task, ms, pairs, torch, training, window):
    task = build_task(MqarConfig(vocab_size=32, length=32, n_pairs=pairs.value, power_a=1.0))
    torch.manual_seed(0)
    model = Model(task.vocab_size, 32, window.value)
    trained = ms.train(model, task, training, progress=False)
    return model, task, trained


@app.cell
def _(budget, model, ms, task, task_rng, trained):
    assert trained.step > 0
    _sizes = {"validation": budget.n_calibration, "test": budget.n_test}
    _batches = [task.batch(task_rng(0, split, i), 32, split) for split, n in _sizes.items() for i in range(n // 32)]
    examination = ms.examine(model, _batches, budget=budget)
    return (examination,)


@app.cell
def _(examination, headline, mo, trained):
    _accuracy = trained.validation["validation_accuracy"]
    verdict = headline(examination)
    mo.md(f"## {verdict}\n\nAccuracy on held-out sequences: {_accuracy:.1%}, loss {examination.base_loss} nats.")
    return (verdict,)


@app.cell
def _(examination, mo):
    site = mo.ui.dropdown(
        {one.name: one for one in [*examination.sites, *examination.groups]},
        value=examination.sites[0].name,
        label="look at",
    )
    mo.hstack([site], justify="start")
    return (site,)


@app.cell
def _(examination, horizon_figure, effects_figure, mo, sentence, site, standalone):
    _one = examination.model_copy(update={"sites": [site.value], "groups": [], "routes": []})
    drawings = [drawing for drawing in (horizon_figure(_one, "horizon"), effects_figure(_one, "effects")) if drawing]
    _style = ".paper { background: #fdfdfb; padding: 0.5rem; } .paper svg { width: 100%; height: auto; }"
    _papers = [mo.Html(f'<div class="paper">{standalone(one.svg)}</div>') for one in drawings]
    _shown = [
        mo.vstack([mo.md(f"**{one.title}.** {one.caption}"), paper])
        for one, paper in zip(drawings, _papers, strict=True)
    ]
    mo.vstack(
        [
            mo.md(f"**{site.value.name}: {site.value.verdict}.** {sentence(site.value, examination)}"),
            mo.hstack(_shown, widths="equal"),
            mo.accordion(
                {
                    f"Numbers: {one.title}": mo.ui.table(
                        [dict(zip(one.columns, row, strict=True)) for row in one.rows], selection=None
                    )
                    for one in drawings
                }
            ),
            mo.Html(f"<style>{_style}</style>"),
        ]
    )
    return (drawings,)


@app.cell
def _(controls_table, examination, mo):
    _table = controls_table(examination)
    controls = [
        {name: cell.verdict or cell.text for name, cell in zip(_table.columns, row, strict=True)}
        for group in _table.groups
        for row in group.rows
    ]
    mo.vstack(
        [
            mo.md("## Can the instrument be trusted here?\n\nControl arms: " + _table.caption.lower()),
            mo.ui.table(controls, selection=None),
        ]
    )
    return (controls,)


if __name__ == "__main__":
    app.run()
