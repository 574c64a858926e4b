"""Pictures that move through time, of a reproduction: its scenes as the figure that turns wants them."""

from mnemoscope.reporting.numbers import plain
from mnemoscope.reporting.turning import Frame, Scene, Turning
from mnemoscope.runs.reproduction import MovingPicture, MovingScene


def moving(picture: MovingPicture, key: str) -> Turning:
    """The figure of one picture.

    Args:
        picture: with at least one scene.
        key: unique on the page.

    Raises:
        ValueError: no scene, or scenes whose parts do not fit together.
    """
    if not picture.scenes:
        raise ValueError(f"moving picture {picture.title!r}: needs at least one scene, got none")
    scenes = [_scene(scene) for scene in picture.scenes]
    first = scenes[0]
    return Turning(
        key=key,
        title=picture.title,
        caption=picture.caption,
        description=f"{picture.title}: {', '.join(first.names)}; {len(first.frames)} moments. Coordinates of the last "
        "are in the table below.",
        scenes=scenes,
        columns=["Point", "x", "y", "z"],
        rows=[[name, *map(plain, point)] for name, point in zip(first.names, first.frames[-1].points, strict=True)],
        through=picture.through,
    )


def _scene(scene: MovingScene) -> Scene:
    return Scene(
        name=scene.name,
        frames=[Frame(label=frame.label, points=frame.points) for frame in scene.frames],
        edges=scene.edges,
        groups=scene.groups,
        group_names=scene.group_names,
        names=scene.names,
        one_scale=True,
    )
