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

/// One image: background, clutter, the shape, something before it, noise.
fn draw(kind: Kind, rng: &mut Rng) -> Canvas {
    let side = SIDE as f32;
    let mut canvas = Canvas::background(rng);

    for _ in 0..1 + rng.below(4) {
        let colour = Colour::draw(rng);
        canvas.stroke(rng, colour, (3.0, 12.0), (0.5, 1.6));
    }

    let radius = rng.range(5.0, 11.0);
    let margin = 0.75 * radius;
    let centre = (
        rng.range(margin, side - margin),
        rng.range(margin, side - margin),
    );
    let behind = canvas.at(centre);
    let colour = Colour::against(rng, behind, 0.22);
    let pose = Pose::draw(rng, centre, radius);
    let hollow = rng.chance(0.25).then(|| rng.range(1.2, 2.2));
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
        canvas.stroke(rng, colour, (4.0, 14.0), (0.6, 1.8));
    }
    let noise = rng.range(0.02, 0.13);
    canvas.noise(rng, noise);
    canvas
}
