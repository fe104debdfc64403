//! The built-in synthetic set: ten kinds of shape on cluttered, noisy 32×32 colour images.
//!
//! Every image is drawn from (seed, part, number) alone, and only by additions, multiplications,
//! divisions and square roots, whose results IEEE 754 fixes: the pixels are the same on every
//! machine, so that a checkpoint trained on them keeps its accuracy.

mod canvas;
mod kind;

use crate::rng::Rng;
use crate::source::{ImageSource, Pixels};
use crate::{DataError, Part};

use canvas::{Canvas, Colour, SIDE};
use kind::{Kind, Pose};

const TRAIN: usize = 50_000;
const TEST: usize = 10_000;

/// One part of the synthetic set.
#[derive(Debug)]
pub(crate) struct Shapes {
    seed: u64,
    part: Part,
}

impl Shapes {
    pub(crate) const CLASSES: [&str; 10] = Kind::NAMES;

    pub(crate) fn new(seed: u64, part: Part) -> Self {
        Self { seed, part }
    }

    /// The stream that draws an image; its first draw is the class.
    fn stream(&self, index: usize) -> (Kind, Rng) {
        let part = match self.part {
            Part::Train => 0,
            Part::Test => 1,
        };
        let mut rng = Rng::keyed(&[0x0005_4a9e, self.seed, part, index as u64]);
        (Kind::ALL[rng.below(Kind::ALL.len() as u64) as usize], rng)
    }
}

impl ImageSource for Shapes {
    fn len(&self) -> usize {
        match self.part {
            Part::Train => TRAIN,
            Part::Test => TEST,
        }
    }

    fn shape(&self) -> [usize; 3] {
        [3, SIDE, SIDE]
    }

    fn label(&self, index: usize) -> i64 {
        self.stream(index).0 as i64
    }

    fn pixels<'a>(
        &'a self,
        index: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Pixels<'a>, DataError> {
        let (kind, mut rng) = self.stream(index);
        scratch.resize(3 * SIDE * SIDE, 0);
        draw(kind, &mut rng).write(scratch);
        Ok(Pixels {
            data: scratch,
            channels: 3,
            height: SIDE,
            width: SIDE,
            interleaved: false,
        })
    }
}

/// What an image's difficulty decides: ranges of the shape's radius in pixels and of the noise, and
/// how far the shape's colour is from the background's at least.
struct Level {
    radius: (f32, f32),
    noise: (f32, f32),
    contrast: f32,
}

/// Two images in three: a network finds its first features on these.
const PLAIN: Level = Level {
    radius: (6.0, 12.0),
    noise: (0.01, 0.09),
    contrast: 0.28,
};
/// One image in three: small, faint and noisy, so that nothing gets them all right.
const HARD: Level = Level {
    radius: (4.5, 9.0),
    noise: (0.06, 0.15),
    contrast: 0.20,
};

/// One image: background, clutter, the shape, something before it, noise.
fn draw(kind: Kind, rng: &mut Rng) -> Canvas {
    let side = SIDE as f32;
    let level = if rng.chance(1.0 / 3.0) { HARD } else { PLAIN };
    let mut canvas = Canvas::background(rng);

    for _ in 0..rng.below(4) {
        let colour = Colour::draw(rng);
        canvas.stroke(rng, colour, (3.0, 10.0), (0.5, 1.3));
    }

    let radius = rng.range(level.radius.0, level.radius.1);
    let margin = 0.85 * radius;
    let centre = (
        rng.range(margin, side - margin),
        rng.range(margin, side - margin),
    );
    let behind = canvas.at(centre);
    let colour = Colour::against(rng, behind, level.contrast);
    let pose = Pose::draw(rng, centre, radius);
    let hollow = rng.chance(0.15).then(|| rng.range(1.2, 2.2));
    let form = kind.form(rng);
    canvas.fill(&pose, colour, |p| {
        let distance = form.distance(p);
        match hollow {
            None => distance,
            Some(width) => (distance + width / radius).abs() - width / radius,
        }
    });

    for _ in 0..rng.below(3) {
        let colour = Colour::draw(rng);
        canvas.stroke(rng, colour, (3.0, 12.0), (0.5, 1.4));
    }
    let noise = rng.range(level.noise.0, level.noise.1);
    canvas.noise(rng, noise);
    canvas
}
