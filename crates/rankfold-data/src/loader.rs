//! Batches decoded ahead of their consumer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::augment::{Augment, Crop, patch, shifted};
use crate::batch::{Batch, Buffers, Input, TensorData};
use crate::dataset::Items;
use crate::frame::{FrameError, Framer};
use crate::normalize::{Table, write};
use crate::rng::Rng;
use crate::source::{ImageSource, Window};
use crate::{DataError, Dataset, Normalization};

/// How a data set is batched.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Items of a batch; the last one of an epoch may have fewer.
    pub batch_size: usize,
    /// Applied to images; the inputs of a tensor file are fed as they are.
    pub normalization: Normalization,
    /// A new order every epoch, drawn from the seed, rather than the data's own.
    pub shuffle: bool,
    /// Random views of images.
    pub augment: Augment,
    /// Decides order and augmentation.
    pub seed: u64,
    /// Leave out the last batch of an epoch if it is smaller.
    pub drop_last: bool,
    /// Decoding threads, 0 for one per core. They change nothing but the speed.
    pub workers: usize,
    /// Batches that are held ready.
    pub ahead: usize,
}

impl LoaderOptions {
    /// Every item once, in order, as it is.
    pub fn evaluate(batch_size: usize, normalization: Normalization) -> Self {
        Self {
            batch_size,
            normalization,
            shuffle: false,
            augment: Augment::NONE,
            seed: 0,
            drop_last: false,
            workers: 0,
            ahead: 2,
        }
    }

    /// Shuffled and augmented by `seed`.
    pub fn train(
        batch_size: usize,
        normalization: Normalization,
        augment: Augment,
        seed: u64,
    ) -> Self {
        Self {
            shuffle: true,
            augment,
            seed,
            ..Self::evaluate(batch_size, normalization)
        }
    }
}

/// Makes the batches of a data set, epoch by epoch.
#[derive(Debug, Clone)]
pub struct Loader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dataset: Dataset,
    options: LoaderOptions,
    tables: Vec<Table>,
    threads: ThreadPool,
    buffers: Arc<Buffers>,
}

/// Batches of one epoch in order, decoded ahead. Ends after the first error.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
    next: usize,
    steps: usize,
}

#[derive(Default)]
struct Scratch {
    raw: Vec<u8>,
    framer: Framer,
}

impl Loader {
    /// A loader of `dataset`; options that cannot be are refused.
    pub fn new(dataset: Dataset, options: LoaderOptions) -> Result<Self, DataError> {
        let (batch, len) = (options.batch_size, dataset.len());
        if batch == 0 || (options.drop_last && batch > len) {
            return Err(DataError::BatchSize { batch, len });
        }
        options.augment.check()?;
        let tables = match dataset.items() {
            Items::Images(images) => options.normalization.tables(images.shape()[0])?,
            Items::Tensors(_) if !options.augment.is_none() => {
                dataset.images("augmentation")?;
                Vec::new()
            }
            Items::Tensors(_) => Vec::new(),
        };
        let threads = ThreadPoolBuilder::new()
            .num_threads(options.workers)
            .thread_name(|i| format!("decode-{i}"))
            .build()
            .map_err(|e| DataError::Threads {
                threads: options.workers,
                source: e.into(),
            })?;
        let buffers = Buffers::new(dataset.inputs().len() * (options.ahead + 3));
        Ok(Self(Arc::new(Inner {
            dataset,
            options,
            tables,
            threads,
            buffers,
        })))
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.0.dataset
    }

    /// The options.
    pub fn options(&self) -> &LoaderOptions {
        &self.0.options
    }

    /// Batches in an epoch.
    pub fn steps(&self) -> usize {
        let (len, batch) = (self.0.dataset.len(), self.0.options.batch_size);
        if self.0.options.drop_last {
            len / batch
        } else {
            len.div_ceil(batch)
        }
    }

    /// The numbers of the items in the order of an epoch.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        match self.0.options.shuffle {
            true => self
                .0
                .order(epoch)
                .into_iter()
                .map(|p| p as usize)
                .collect(),
            false => (0..self.0.dataset.len()).collect(),
        }
    }

    /// The batches of an epoch from `first_step` on; they are the same whether the steps before
    /// were asked for or not.
    pub fn epoch(&self, epoch: u64, first_step: usize) -> Result<Batches, DataError> {
        let steps = self.steps();
        let (sender, receiver) = sync_channel(self.0.options.ahead);
        let inner = self.0.clone();
        let thread = std::thread::Builder::new()
            .name("batches".into())
            .spawn(move || inner.produce(epoch, first_step..steps, &sender))
            .map_err(|e| DataError::Threads {
                threads: 1,
                source: e.into(),
            })?;
        Ok(Batches {
            receiver: Some(receiver),
            thread: Some(thread),
            next: first_step,
            steps,
        })
    }
}

impl Inner {
    fn produce(
        &self,
        epoch: u64,
        steps: std::ops::Range<usize>,
        sender: &SyncSender<Result<Batch, DataError>>,
    ) {
        let order = self.options.shuffle.then(|| self.order(epoch));
        for step in steps {
            let first = step * self.options.batch_size;
            let last = (first + self.options.batch_size).min(self.dataset.len());
            let positions: Vec<usize> = match &order {
                None => (first..last).collect(),
                Some(order) => order[first..last].iter().map(|&p| p as usize).collect(),
            };
            let batch = self.batch(epoch, step, &positions);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// The epoch's order: a Fisher–Yates shuffle of the stream of seed and epoch.
    fn order(&self, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.dataset.len() as u32).collect();
        let mut rng = Rng::keyed(&[0x05af_f1e0, self.options.seed, epoch]);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        order
    }

    fn batch(&self, epoch: u64, step: usize, positions: &[usize]) -> Result<Batch, DataError> {
        let labels = self
            .dataset
            .labelled()
            .then(|| positions.iter().map_while(|&p| self.dataset.label(p)));
        let labels = labels.map(Iterator::collect);
        let (inputs, targets) = match self.dataset.items() {
            Items::Images(images) => {
                let images = self.images(images.as_ref(), epoch, positions)?;
                (vec![images], None)
            }
            Items::Tensors(tensors) => {
                let items: Vec<usize> = positions.iter().map(|&p| self.dataset.stored(p)).collect();
                let inputs = tensors.gather(&items, &self.buffers);
                (inputs, tensors.targets(&items, &self.buffers))
            }
        };
        Ok(Batch {
            inputs,
            labels,
            targets,
            step,
        })
    }

    fn images(
        &self,
        images: &dyn ImageSource,
        epoch: u64,
        positions: &[usize],
    ) -> Result<Input, DataError> {
        let shape = images.shape();
        let size: usize = shape.iter().product();
        let mut buffer = self.buffers.take(positions.len() * size);
        let together = if images.size().is_some() { 1 } else { 8 };
        let first_error = self.threads.install(|| {
            buffer
                .par_chunks_exact_mut(size)
                .zip(positions)
                .with_min_len(together)
                .map_init(Scratch::default, |scratch, (out, &position)| {
                    self.image(images, epoch, self.dataset.stored(position), scratch, out)
                        .err()
                })
                .enumerate()
                .filter_map(|(i, error)| Some((i, error?)))
                .min_by_key(|(i, _)| *i)
        });
        match first_error {
            Some((_, error)) => Err(error),
            None => Ok(Input {
                name: None,
                shape: [&[positions.len()], &shape[..]].concat(),
                data: TensorData::F32(buffer),
            }),
        }
    }

    fn image(
        &self,
        images: &dyn ImageSource,
        epoch: u64,
        stored: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let resize = |error: FrameError| error.of(images, stored);
        let augment = &self.options.augment;
        let mut rng = Rng::keyed(&[0xa06_3e27, self.options.seed, epoch, stored as u64]);
        let flip = augment.draw_flip(&mut rng);

        let pixels = images.pixels(stored, &mut scratch.raw)?;
        let (pixels, mut window) = match (augment.crop, images.size()) {
            (Crop::Resized { scale, ratio }, _) => {
                let [_, height, width] = images.shape();
                let window = patch(&mut rng, pixels.whole(), scale, ratio);
                let cut = scratch
                    .framer
                    .resize(&pixels, window, height, width)
                    .map_err(resize)?;
                (
                    cut,
                    Window {
                        top: 0,
                        left: 0,
                        height,
                        width,
                    },
                )
            }
            (_, Some(size)) => scratch.framer.centred(&pixels, size).map_err(resize)?,
            (_, None) => (pixels, pixels.whole()),
        };
        if let Crop::Padded(pad) = augment.crop {
            window = shifted(&mut rng, window, pad);
        }
        write(&pixels, window, flip, &self.tables, out);
        if let Some(light) = augment.draw_light(&mut rng) {
            let std = self.options.normalization.std().iter().cycle();
            let plane = window.height * window.width;
            for (channel, &std) in out.chunks_exact_mut(plane).zip(std) {
                light.fall_on(channel, std);
            }
        }
        Ok(())
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.steps {
            return None;
        }
        let batch = self
            .receiver
            .as_ref()?
            .recv()
            .unwrap_or(Err(DataError::WorkerLost {
                delivered: self.next,
                expected: self.steps,
            }));
        self.next += 1;
        if batch.is_err() {
            self.next = self.steps;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.steps.saturating_sub(self.next);
        (0, Some(left))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        drop(self.receiver.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported as `WorkerLost`.
            let _ = thread.join();
        }
    }
}
