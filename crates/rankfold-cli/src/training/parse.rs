//! Values of training options that are words with numbers in them.

use std::str::FromStr;

use rankfold_data::{Augment, Crop};
use rankfold_finetune::Fall;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FallArg(pub(super) Fall);

impl FromStr for FallArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected cosine, constant or steps:EPOCHS:FACTOR".to_owned();
        Ok(Self(match text {
            "cosine" => Fall::Cosine,
            "constant" => Fall::Never,
            steps => {
                let steps = steps.strip_prefix("steps:").ok_or_else(expected)?;
                let (every, factor) = steps.split_once(':').ok_or_else(expected)?;
                let every: usize = every.parse().map_err(|_| expected())?;
                let factor: f64 = factor.parse().map_err(|_| expected())?;
                if every == 0 || !(factor > 0.0 && factor <= 1.0) {
                    return Err("expected at least one epoch, and a factor in (0, 1]".to_owned());
                }
                Fall::Steps { every, factor }
            }
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum AugmentArg {
    Usual,
    Own(Augment),
}

impl FromStr for AugmentArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "usual" {
            return Ok(Self::Usual);
        }
        let mut own = Augment::NONE;
        for part in text.split(',').filter(|&part| part != "none") {
            match part {
                "flip" => own.flip = true,
                "crop" => own.crop = Crop::Padded(4),
                "resized-crop" => own.crop = Augment::IMAGENET.crop,
                _ => return Err("expected usual, none, flip, crop or resized-crop".to_owned()),
            }
        }
        Ok(Self::Own(own))
    }
}
