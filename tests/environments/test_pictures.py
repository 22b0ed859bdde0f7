"""pygame's pictures and small things, as games keep them."""

from __future__ import annotations

import pytest
from environment_support import transported

from perdure.errors import RestoreError
from perdure.state import capture, restore

pygame = pytest.importorskip("pygame")


class Game:
    def __init__(self, **things):
        vars(self).update(things)


def pixels(surface):
    return surface.get_buffer().raw


def painted(size=(7, 5), colour=(10, 20, 30), **options):
    surface = pygame.Surface(size, **options)
    surface.fill(colour)
    surface.set_at((2, 3), (200, 100, 50))
    return surface


def moved(value, into):
    game = Game(thing=into)
    assert restore(transported(capture({"g": Game(thing=value)})), {"g": game}).exact
    return game.thing


@pytest.mark.parametrize(
    "options",
    [{}, {"flags": pygame.SRCALPHA}, {"depth": 8}, {"depth": 16}, {"depth": 24}, {"depth": 32}],
    ids=repr,
)
@pytest.mark.parametrize("there", [False, True])
def test_pictures_of_every_kind(options, there):
    one = painted(**options)
    one.set_colorkey((10, 20, 30))
    one.set_alpha(99)
    one.set_clip((1, 1, 3, 3))
    other = moved(one, pygame.Surface((7, 5), **options) if there else None)
    assert pixels(other) == pixels(one)
    assert (other.get_colorkey(), other.get_alpha(), other.get_clip()) == (
        one.get_colorkey(),
        one.get_alpha(),
        one.get_clip(),
    )
    canvases = [pygame.Surface((9, 9)), pygame.Surface((9, 9))]
    for canvas, picture in zip(canvases, (one, other), strict=True):
        canvas.fill((3, 3, 3))
        canvas.blit(picture, (1, 1))
    assert pixels(canvases[0]) == pixels(canvases[1])


def test_a_picture_that_looks_the_same_stays_the_object_it_is():
    there = painted()
    assert moved(painted(), there) is there


def test_an_image_that_others_draw_with_is_not_written_over():
    image = painted(colour=(1, 1, 1))
    before = pixels(image)
    made = moved(painted(colour=(2, 2, 2)), image)
    assert made is not image
    assert pixels(image) == before


def test_a_picture_of_another_size():
    assert moved(painted((3, 4)), painted((9, 9))).get_size() == (3, 4)


def test_the_display_is_written_in_place():
    pygame.display.init()
    try:
        screen = pygame.display.set_mode((8, 6))
        screen.fill((5, 6, 7))
        state = transported(capture({"g": Game(screen=screen)}))
        content = pixels(screen)
        screen.fill((0, 0, 0))
        game = Game(screen=screen)
        restore(state, {"g": game})
        assert game.screen is screen
        assert pixels(screen) == content
        game = Game(screen=None)
        restore(state, {"g": game})
        assert game.screen is None
    finally:
        pygame.display.quit()


def test_a_part_of_a_picture_is_a_part_again():
    whole = painted((10, 10))
    part = whole.subsurface((2, 3, 4, 5))
    game = Game(whole=None, part=None)
    restore(transported(capture({"g": Game(whole=whole, part=part)})), {"g": game})
    assert game.part.get_parent() is game.whole
    assert game.part.get_offset() == (2, 3)
    game.part.fill((9, 9, 9))
    assert game.whole.get_at((3, 4))[:3] == (9, 9, 9)


@pytest.mark.parametrize(
    "thing",
    [
        pygame.Rect(1, -2, 30, 4),
        pygame.FRect(1.5, -2.25, 3, 4),
        pygame.Vector2(0.1, -7),
        pygame.Vector3(0.1, -7, 3),
        pygame.Color(1, 2, 3, 4),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_small_things(thing):
    made = moved(thing, None)
    assert type(made) is type(thing)
    assert made == thing
    there = type(thing)(*[0] * len(thing))
    assert moved(thing, there) is there
    assert there == thing


def test_masks():
    mask = pygame.mask.Mask((40, 9))
    mask.set_at((33, 7))
    for there in (None, pygame.mask.Mask((40, 9), fill=True), pygame.mask.Mask((2, 2))):
        made = moved(mask, there)
        assert made.get_size() == (40, 9)
        assert made.count() == 1
        assert made.get_at((33, 7))


def test_groups_of_sprites():
    class Ball(pygame.sprite.Sprite):
        def __init__(self, x):
            super().__init__()
            self.image = painted(colour=(x, x, x))
            self.rect = self.image.get_rect(x=x)

    globals()["Ball"] = Ball
    Ball.__qualname__ = "Ball"
    one, other = (Game(balls=pygame.sprite.Group(*map(Ball, count))) for count in (range(4), range(2)))
    one.balls.sprites()[1].kill()
    restore(transported(capture({"g": one})), {"g": other})
    assert [ball.rect.x for ball in other.balls] == [0, 2, 3]
    other.balls.sprites()[0].kill()
    assert len(other.balls) == 2


def test_typefaces_and_sounds_are_no_state():
    pygame.font.init()
    game = Game(font=pygame.font.Font(None, 12), clock=pygame.time.Clock())
    report = restore(capture({"g": game}), {"g": game})
    assert {path for path, _ in report.skipped} == {"g.font", "g.clock"}


def hostile(key, value):
    state = transported(capture({"g": Game(thing=painted())}))
    payload = state.root.fields["g"].fields["thing"].payload
    payload.pairs = [(name, value if name == key else child) for name, child in payload.pairs]
    return state


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", None), ("pixels", 7), ("format", "x"), ("settings", None)],
)
def test_what_is_no_picture_is_refused(key, value):
    with pytest.raises(RestoreError):
        restore(hostile(key, value), {"g": Game(thing=None)})


@pytest.mark.parametrize(
    "numbers", [[1 << 20, 1 << 20], [-5, 5], [3, 3]], ids=["too large", "negative", "too few pixels"]
)
def test_sizes_that_no_picture_has_are_refused(numbers):
    state = transported(capture({"g": Game(thing=painted())}))
    payload = state.root.fields["g"].fields["thing"].payload
    dict(payload.pairs)["format"].items[:2] = numbers
    with pytest.raises(RestoreError, match="expected"):
        restore(state, {"g": Game(thing=None)})
