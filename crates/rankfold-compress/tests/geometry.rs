//! Where a window goes, counted.

use rankfold_compress::Geometry;

#[test]
fn outputs_are_the_places_where_a_window_fits() {
    let mut geometries = Vec::new();
    for stride in [[1, 1], [2, 3]] {
        for dilation in [[1, 1], [2, 3]] {
            for padding in [[[0, 0], [0, 0]], [[1, 2], [0, 3]]] {
                geometries.push(Geometry {
                    stride,
                    padding,
                    dilation,
                    groups: 1,
                });
            }
        }
    }
    for geometry in geometries {
        for (input, kernel) in [([7, 9], [3, 3]), ([10, 8], [1, 2]), ([12, 15], [4, 5])] {
            let counted = [0, 1].map(|i| {
                let size = input[i] + geometry.padding[i].iter().sum::<usize>();
                let starts = (0..size).step_by(geometry.stride[i]);
                let last = |start: usize| start + geometry.dilation[i] * (kernel[i] - 1);
                starts.filter(|&start| last(start) < size).count()
            });
            assert_eq!(geometry.output(input, kernel), counted, "{geometry:?}");
            for axis in [0, 1] {
                let along = geometry.along(axis).output(input, {
                    let mut part = [1; 2];
                    part[axis] = kernel[axis];
                    part
                });
                let mut expected = input;
                expected[axis] = counted[axis];
                assert_eq!(along, expected, "{geometry:?} along {axis}");
            }
        }
    }
}
