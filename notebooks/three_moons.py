"""Three moons: a memory with three heads takes three independent movements apart, one with a single head cannot.

marimo edit notebooks/three_moons.py     python notebooks/three_moons.py
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Three moons")


@app.cell
def _():
    import marimo as mo
    import numpy as np
    import torch

    from mnemoscope.experiments.mosaics.foreseeing import N_AHEAD, errors, repeating, rollout, validation_skies
    from mnemoscope.experiments.mosaics.moons_training import MoonsTraining, train_moons
    from mnemoscope.models.moons import MoonsNetworkConfig, build_moons_network
    from mnemoscope.reporting.canvas import DASHES, MUTED, SERIES, blank, drawing_style, inline_svg, legend
    from mnemoscope.reporting.takeaway import standalone

    return (
        DASHES,
        MUTED,
        MoonsNetworkConfig,
        MoonsTraining,
        N_AHEAD,
        SERIES,
        blank,
        build_moons_network,
        drawing_style,
        errors,
        inline_svg,
        legend,
        mo,
        np,
        repeating,
        rollout,
        standalone,
        torch,
        train_moons,
        validation_skies,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Three moons

    Three moons circle with periods 1, 2 and 3. A network watches them, six numbers at a time, and must foresee where
    they stand next. It is a single contextual memory: `y_t` is a mean of what followed earlier moments, weighted by how
    much those moments looked like this one. With **one head** the whole sky has to look alike, which happens every 267
    observations; with **three heads** every moon can be compared with its own past, and the slowest comes back
    after 133. Nothing tells the network that there are three.

    Source: "Memory Mosaics" (2024), section 3. `mnemoscope reproduce three-moons` measures it over seeds.
    """)
    return


@app.cell
def _(mo):
    heads = mo.ui.radio({"one head": 1, "three heads": 3}, value="three heads", inline=True)
    weights = mo.ui.radio(
        ["trained here", "identities, which foresee as well as a memory can"], value="trained here", inline=True
    )
    context = mo.ui.slider(10, 300, step=10, value=150, show_value=True, label="observations so far")
    mo.vstack([mo.hstack([heads, weights], justify="start", gap=3), context])
    return context, heads, weights


@app.cell
def _(MoonsTraining):
    training = MoonsTraining(batch_size=4, length=400, steps=60)
    n_skies = 8
    return n_skies, training


@app.cell
def _(MoonsNetworkConfig, build_moons_network, heads, train_moons, training, weights):
    if weights.value == "trained here":
        network = train_moons(training, heads.value, seed=0).network
    else:
        network = build_moons_network(MoonsNetworkConfig(n_heads=heads.value), 0).set_identity()
    return (network,)


@app.cell
def _(N_AHEAD, context, errors, n_skies, network, np, repeating, rollout, torch, validation_skies):
    watched = validation_skies(n_skies, 300 + N_AHEAD)
    contexts = sorted({*range(10, 301, 10)})
    error, expected_again = errors(network, watched, contexts), repeating(watched, contexts)
    with torch.no_grad():
        _seen, _state = torch.from_numpy(watched.seen[:1]), network.memory.init_state(1)
        for _n in range(context.value):
            _first, _state = network.memory.step(_seen[:, _n], _state)
        ahead = rollout(network, _first, _state)[0].numpy()
    truth = watched.seen[0, context.value : context.value + N_AHEAD]
    deviation = float(np.abs(ahead - truth).mean())
    return ahead, contexts, deviation, error, expected_again, truth, watched


@app.cell
def _(DASHES, MUTED, N_AHEAD, SERIES, ahead, blank, context, drawing_style, inline_svg, legend, np, watched):
    _time, _then = np.arange(context.value + N_AHEAD), np.arange(context.value, context.value + N_AHEAD)
    with drawing_style("sky"):
        _figure, _panels = blank(3.6, 3)
        for _moon, _axes in enumerate(_panels):
            _axes.plot(_time, watched.seen[0, : len(_time), 2 * _moon], color=MUTED, linewidth=1, label="the moon")
            _axes.plot(_then, ahead[:, 2 * _moon], color=SERIES[0], linestyle=DASHES[0], label="foreseen")
            _axes.axvline(context.value, color=MUTED, linewidth=0.7, linestyle=":")
            _axes.set(ylim=(-1.1, 1.1), ylabel=f"moon {_moon + 1}")
        _panels[-1].set_xlabel("observation")
        legend(_figure, _panels[0])
        sky = inline_svg(_figure, "sky", "The sine of each moon, and what is foreseen of it.")
    return (sky,)


@app.cell
def _(DASHES, MUTED, SERIES, blank, context, contexts, drawing_style, error, expected_again, inline_svg, legend):
    with drawing_style("errors"):
        _figure, (_axes,) = blank(2.6)
        _axes.plot(contexts, error, color=SERIES[0], label="the network")
        _axes.plot(contexts, expected_again, color=SERIES[1], linestyle=DASHES[1], label="the last observation again")
        _axes.axvline(context.value, color=MUTED, linewidth=0.7, linestyle=":")
        _axes.set(xlabel="observations so far", ylabel="mean error of 25 predictions", ylim=(0, None))
        legend(_figure, _axes)
        error_curve = inline_svg(_figure, "errors", "Mean absolute error of 25 predictions by length of the context.")
    return (error_curve,)


@app.cell
def _(context, deviation, error_curve, mo, sky, standalone):
    _told = "**One sky.** Right of the dotted line, the network goes on by itself."
    _sky = mo.vstack([mo.md(_told), mo.Html(standalone(sky))])
    _errors = mo.vstack([mo.md("**Many skies.** Error by how much was seen."), mo.Html(standalone(error_curve))])
    _style = "svg[role=img] { background: #fdfdfb; width: 100%; height: auto; padding: 0.5rem; }"
    mo.vstack(
        [
            mo.md(f"## After {context.value} observations, the next 25 are foreseen to within {deviation:.3f}"),
            mo.hstack([_sky, _errors], widths="equal"),
            mo.Html(
                "<style>svg[role=img] { background: #fdfdfb; width: 100%; height: auto; padding: 0.5rem; }</style>"
            ),
        ]
    )
    return


@app.cell
def _(contexts, error, expected_again, mo, network, np):
    numbers = [
        {"observations so far": n, "the network": f"{e:.3f}", "the last observation again": f"{r:.3f}"}
        for n, e, r in zip(contexts, error, expected_again, strict=True)
    ]
    sizes = {name: np.abs(matrix.numpy()).round(2).tolist() for name, matrix in network.matrices().items()}
    _tables = [
        mo.vstack([mo.md(f"**|{name}|**"), mo.ui.table([dict(zip("123", row, strict=True)) for row in size])])
        for name, size in sizes.items()
    ]
    mo.accordion(
        {
            "Numbers of the curve": mo.ui.table(numbers, selection=None),
            "How much each moon weighs in each other": mo.vstack(
                [
                    mo.md("A matrix near a permutation keeps the moons apart."),
                    mo.hstack(_tables, widths="equal"),
                ]
            ),
        }
    )
    return numbers, sizes


if __name__ == "__main__":
    app.run()
