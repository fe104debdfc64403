//! Properties that hold for every kernel, rank, form and method.

mod cp_support;

use cp_support::{energy, gaussian, measured};
use proptest::prelude::*;
use rankfold_decompose::cp::{
    Als, CpForm, CpMethod, CpOptions, Power, PowerMode, Start, cp, cp_curve, max_rank,
};
use rankfold_decompose::{Control, Threads};

fn forms() -> impl Strategy<Value = CpForm> {
    prop_oneof![
        Just(CpForm::TwoWay),
        Just(CpForm::ThreeWay),
        Just(CpForm::FourWay)
    ]
}

fn methods() -> impl Strategy<Value = CpMethod> {
    let starts = prop_oneof![
        Just(Start::Best),
        Just(Start::Slices),
        Just(Start::Hosvd),
        Just(Start::Random)
    ];
    let als = (starts, 1usize..30, prop_oneof![Just(0.0), Just(1e-3)]).prop_map(
        |(start, max_sweeps, ridge)| Als {
            start,
            max_sweeps,
            ridge,
            ..Als::default()
        },
    );
    let modes = prop_oneof![Just(PowerMode::Faithful), Just(PowerMode::Joint)];
    let power = (modes, 1usize..6, 1usize..4).prop_map(|(mode, passes, restarts)| Power {
        passes,
        restarts,
        mode,
    });
    (als, power, 0..3).prop_map(|(als, power, which)| match which {
        0 => CpMethod::Als(als),
        1 => CpMethod::Power(power),
        _ => CpMethod::PowerThenAls(power, als),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_certificate_and_the_energy_are_those_of_the_weights(
        (t, s, h, w) in (1usize..9, 1usize..9, 1usize..4, 1usize..4),
        groups in 1usize..3,
        share in 0.0f64..1.0,
        form in forms(),
        method in methods(),
        seed in 0u64..1000,
    ) {
        prop_assume!(groups == 1 || s > 1);
        let shape = [t * groups, s, h, w];
        let kernel = gaussian::<f64>(shape, seed);
        let most = max_rank(shape, groups, form) / groups;
        let rank = groups * (1 + (share * (most - 1) as f64) as usize);
        let options = CpOptions { form, method, groups, seed, threads: Threads::Serial, energy_bound: None };
        let d = cp(kernel.view(), rank, &options, Control::default()).unwrap();
        let error = measured(kernel.view(), &d.weights);
        // Without a ridge the terms may cancel, and the certificate keeps as many digits as they leave.
        let tolerance = 1e-7 * (1.0 + d.energy);
        prop_assert!((error - d.relative_error).abs() < tolerance, "{error} {}", d.relative_error);
        prop_assert_eq!(d.weights.rank(), rank);
        prop_assert!(d.relative_error <= 1.0 + 1e-9);
        if groups == 1 && form != CpForm::TwoWay {
            let energy = energy(kernel.view(), &d.weights);
            prop_assert!((energy - d.energy).abs() <= 1e-9 * (1.0 + energy));
        }
    }

    #[test]
    fn one_rank_alone_and_the_largest_of_a_curve_agree(
        (t, s) in (2usize..8, 2usize..8),
        rank in 1usize..8,
        seed in 0u64..1000,
    ) {
        let kernel = gaussian::<f32>([t, s, 3, 3], seed);
        let options = CpOptions { seed, threads: Threads::Serial, ..CpOptions::default() };
        let alone = cp(kernel.view(), rank, &options, Control::default()).unwrap();
        let ranks: Vec<usize> = (1..=rank).collect();
        let curve = cp_curve(kernel.view(), &ranks, &options, Control::default()).unwrap();
        prop_assert_eq!(&curve[rank - 1], &alone);
    }

    #[test]
    fn an_energy_bound_is_never_passed(
        seed in 0u64..1000,
        rank in 2usize..12,
        bound in 0.05f64..3.0,
    ) {
        let kernel = gaussian::<f64>([6, 5, 3, 3], seed);
        let options = CpOptions { seed, energy_bound: Some(bound), ..CpOptions::default() };
        let d = cp(kernel.view(), rank, &options, Control::default()).unwrap();
        prop_assert!(energy(kernel.view(), &d.weights) <= bound * (1.0 + 1e-6));
        prop_assert!((measured(kernel.view(), &d.weights) - d.relative_error).abs() < 1e-9);
    }
}
