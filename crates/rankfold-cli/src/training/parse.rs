//! Values of training options that are words with numbers in them.

use std::str::FromStr;

use rankfold_data::{Augment, Crop};
use rankfold_finetune::Fall;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FallArg(pub(super) Fall);

impl FromStr for FallArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "expected cosine, constant, steps:EPOCHS:FACTOR or plateau:EPOCHS:FACTOR".to_owned();
        let mut parts = text.splitn(3, ':');
        let fall = match (parts.next(), parts.next(), parts.next()) {
            (Some("cosine"), None, None) => Fall::Cosine,
            (Some("constant"), None, None) => Fall::Never,
            (Some(kind @ ("steps" | "plateau")), Some(epochs), Some(factor)) => {
                let (Ok(every), Ok(factor)) = (epochs.parse::<usize>(), factor.parse::<f64>())
                else {
                    return Err(expected);
                };
                if every == 0 || !(factor > 0.0 && factor <= 1.0) {
                    return Err("expected at least one epoch, and a factor in (0, 1]".to_owned());
                }
                match kind {
                    "steps" => Fall::Steps { every, factor },
                    _ => Fall::Plateau {
                        patience: every,
                        factor,
                    },
                }
            }
            _ => return Err(expected),
        };
        Ok(Self(fall))
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
                "brightness" => own.brightness = Augment::LIGHT.0,
                "contrast" => own.contrast = Some(Augment::LIGHT.1),
                _ => {
                    return Err(
                        "expected usual, none, or flip, crop, resized-crop, brightness, contrast"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(Self::Own(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_parse_as_the_help_says() {
        let steps = Fall::Steps {
            every: 5,
            factor: 0.1,
        };
        let plateau = Fall::Plateau {
            patience: 3,
            factor: 0.5,
        };
        assert_eq!("cosine".parse(), Ok(FallArg(Fall::Cosine)));
        assert_eq!("constant".parse(), Ok(FallArg(Fall::Never)));
        assert_eq!("steps:5:0.1".parse(), Ok(FallArg(steps)));
        assert_eq!("plateau:3:0.5".parse(), Ok(FallArg(plateau)));
        for wrong in [
            "steps",
            "steps:5",
            "steps:0:0.1",
            "plateau:3:1.5",
            "cosine:1",
            "stairs:1:1",
        ] {
            assert!(wrong.parse::<FallArg>().is_err(), "{wrong}");
        }
    }
}
