//! The ten kinds of shape as signed distances, and where a shape lies on the image.

use crate::rng::Rng;

/// A point, in pixels or in the shape's own unit.
pub(super) type Point = (f32, f32);

/// A class of the synthetic set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Disc,
    Ellipse,
    Square,
    Rectangle,
    Triangle,
    Pentagon,
    Hexagon,
    Star,
    Cross,
    Crescent,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Disc,
        Self::Ellipse,
        Self::Square,
        Self::Rectangle,
        Self::Triangle,
        Self::Pentagon,
        Self::Hexagon,
        Self::Star,
        Self::Cross,
        Self::Crescent,
    ];

    pub(super) const NAMES: [&str; 10] = [
        "disc",
        "ellipse",
        "square",
        "rectangle",
        "triangle",
        "pentagon",
        "hexagon",
        "star",
        "cross",
        "crescent",
    ];

    /// The kind with its proportions drawn.
    pub(super) fn form(self, rng: &mut Rng) -> Form {
        let proportion = match self {
            Self::Ellipse => rng.range(0.50, 0.74),
            Self::Rectangle => rng.range(0.45, 0.70),
            Self::Cross => rng.range(0.26, 0.42),
            Self::Crescent => rng.range(0.35, 0.60),
            _ => 0.0,
        };
        Form {
            kind: self,
            proportion,
        }
    }
}

/// A kind with its proportions, of about unit radius.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    kind: Kind,
    proportion: f32,
}

/// Outward normals of the regular polygons: (cos 2πk/n, sin 2πk/n).
const TRIANGLE: [Point; 3] = [(1.0, 0.0), (-0.5, 0.866_025_4), (-0.5, -0.866_025_4)];
const PENTAGON: [Point; 5] = [
    (1.0, 0.0),
    (0.309_017, 0.951_056_5),
    (-0.809_017, 0.587_785_25),
    (-0.809_017, -0.587_785_25),
    (0.309_017, -0.951_056_5),
];
const HEXAGON: [Point; 6] = [
    (1.0, 0.0),
    (0.5, 0.866_025_4),
    (-0.5, 0.866_025_4),
    (-1.0, 0.0),
    (-0.5, -0.866_025_4),
    (0.5, -0.866_025_4),
];

fn length((x, y): Point) -> f32 {
    (x * x + y * y).sqrt()
}

/// The two largest distances over the half-planes with these normals at `apothem`.
fn half_planes(normals: &[Point], (x, y): Point, apothem: f32) -> (f32, f32) {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for (nx, ny) in normals {
        let distance = nx * x + ny * y - apothem;
        second = second.max(first.min(distance));
        first = first.max(distance);
    }
    (first, second)
}

fn box_distance((x, y): Point, half: Point) -> f32 {
    (x.abs() - half.0).max(y.abs() - half.1)
}

impl Form {
    /// The signed distance of `p` from the outline, negative inside; exact near the outline, a
    /// bound elsewhere.
    pub(super) fn distance(&self, p: Point) -> f32 {
        let share = self.proportion;
        match self.kind {
            Kind::Disc => length(p) - 0.92,
            Kind::Ellipse => {
                let (a, b) = (1.12, 1.12 * share);
                let near = length((p.0 / a, p.1 / b));
                let slope = length((p.0 / (a * a), p.1 / (b * b)));
                if slope > 0.0 {
                    near * (near - 1.0) / slope
                } else {
                    -b
                }
            }
            Kind::Square => box_distance(p, (0.82, 0.82)),
            Kind::Rectangle => box_distance(p, (1.02, 1.02 * share)),
            Kind::Triangle => half_planes(&TRIANGLE, p, 0.58).0,
            Kind::Pentagon => half_planes(&PENTAGON, p, 0.80).0,
            Kind::Hexagon => half_planes(&HEXAGON, p, 0.85).0,
            // Inside a pentagram at most one of the five half-planes is left.
            Kind::Star => half_planes(&PENTAGON, p, 0.40).1,
            Kind::Cross => box_distance(p, (1.0, share)).min(box_distance(p, (share, 1.0))),
            Kind::Crescent => {
                let bite = length((p.0 - share, p.1)) - 0.82;
                (length(p) - 1.0).max(-bite)
            }
        }
    }
}

/// Place, size, rotation and a slight squeeze of a shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pose {
    pub(super) centre: Point,
    pub(super) radius: f32,
    turn: Point,
    squeeze: f32,
}

impl Pose {
    pub(super) fn draw(rng: &mut Rng, centre: Point, radius: f32) -> Self {
        Self {
            centre,
            radius,
            turn: direction(rng),
            squeeze: rng.range(0.90, 1.0 / 0.90),
        }
    }

    /// The shape's own coordinates of a point of the image.
    pub(super) fn local(&self, (x, y): Point) -> Point {
        let (dx, dy) = (
            (x - self.centre.0) / self.radius,
            (y - self.centre.1) / self.radius,
        );
        let (c, s) = self.turn;
        (
            (c * dx + s * dy) * self.squeeze,
            (c * dy - s * dx) / self.squeeze,
        )
    }
}

/// A unit vector of random direction, by rejection: no sine, whose last bit differs by machine.
pub(super) fn direction(rng: &mut Rng) -> Point {
    loop {
        let (x, y) = (rng.range(-1.0, 1.0), rng.range(-1.0, 1.0));
        let norm = length((x, y));
        if norm > 0.1 && norm <= 1.0 {
            return (x / norm, y / norm);
        }
    }
}
